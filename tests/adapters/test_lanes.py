"""The road without a store: each fact to its handler, in order per key, acknowledged one by one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mesh_contracts.identity import ProjectAdmitted
from mesh_contracts.streams import consumers
from meshkit.bus import Bus
from meshkit.consumer import Pull
from meshkit.declare import declare
from meshkit.hear import Lanes

from tests.adapters.roads import admitted, connected, tell, until
from tests.servers_nats import NatsServer

SPEC = next(spec for spec in consumers() if spec.name == "metering_IDENTITY_00")


@pytest.fixture
async def bus(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Bus]:
    connection = await connected(tmp_path, nats_server.url)
    await declare(connection)
    yield connection
    await connection.close()


class Ear:
    """Hears facts on lanes; slow for some keys, failing for others."""

    def __init__(self, bus: Bus) -> None:
        self.heard: list[tuple[str, int]] = []
        self.fails: dict[tuple[str, int], int] = {}
        self.pull = Pull(bus, SPEC.stream, SPEC.name)
        self.lanes = Lanes(SPEC.name, self.pull, {ProjectAdmitted: self.handle})

    async def handle(self, fact: ProjectAdmitted) -> None:
        await asyncio.sleep(0.02 if fact.key.endswith("slow") else 0)
        if self.fails.get((fact.key, fact.version), 0):
            self.fails[fact.key, fact.version] -= 1
            raise ValueError("not yet")
        self.heard.append((fact.key, fact.version))

    async def open(self) -> None:
        self.lanes.start()
        await self.pull.start(self.lanes.heard)

    async def close(self) -> None:
        await self.pull.stop()
        await self.lanes.stop()

    def of(self, key: str) -> list[int]:
        return [version for heard, version in self.heard if heard == key]


async def test_each_key_is_handled_in_order_while_a_slow_one_holds_nobody_up(bus: Bus) -> None:
    ear = Ear(bus)
    facts = [
        admitted(key, version=version)
        for version in range(1, 21)
        for key in ("a", "b", "c", "the-slow")
    ]
    await tell(bus, *facts)
    await ear.open()
    await until(lambda: len(ear.heard) == len(facts))
    assert all(ear.of(key) == list(range(1, 21)) for key in ("a", "b", "c", "the-slow"))
    assert ear.heard.index(("a", 20)) < ear.heard.index(("the-slow", 20))
    await until(lambda: ear.pull.in_hand == 0)
    await ear.close()


async def test_a_failing_fact_makes_its_key_wait_and_no_other(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshkit.hear.RETRY_WAITS_S", (0.1, 0.1, 0.1, 0.1))
    ear = Ear(bus)
    ear.fails = {("a", 1): 2, ("b", 1): 99}
    await tell(
        bus, *(admitted(key, version=version) for key in ("a", "b", "c") for version in (1, 2, 3))
    )
    await ear.open()
    await until(lambda: len(ear.heard) == 8)
    assert ear.of("a") == [1, 2, 3]
    # Given up on within its bound; the key goes on.
    assert ear.of("b") == [2, 3]
    assert ear.heard[:3] == [("c", 1), ("c", 2), ("c", 3)]
    await until(lambda: ear.pull.in_hand == 0)
    await ear.close()


@pytest.mark.slow
async def test_what_was_not_begun_is_delivered_again_to_the_next(bus: Bus) -> None:
    first = Ear(bus)
    await tell(bus, *(admitted("the-slow", version=version) for version in range(1, 11)))
    await first.open()
    await until(lambda: len(first.heard) >= 2)
    await first.close()
    second = Ear(bus)
    await second.open()
    await until(lambda: len(set(first.heard + second.heard)) == 10, 20)
    await second.close()
