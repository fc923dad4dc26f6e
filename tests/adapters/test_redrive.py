"""Dead letters are listed and tried again by asks; a redrive is refused where its key has moved on."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mesh_contracts import wire
from mesh_contracts.ask import (
    DeadLetters,
    Empty,
    ListDeadLetters,
    Page,
    Principal,
    Problem,
    RedriveDeadLetter,
)
from mesh_contracts.fact import subject_of
from mesh_contracts.identity import ProjectAdmitted
from meshkit.bus import Bus
from meshkit.clock import Clock
from meshkit.declare import declare
from meshkit.service import Service
from meshkit.store import Transaction

from tests.adapters.roads import admitted, connected, eventually, opened, settings, tell
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

ADMIN = Principal(
    principal_id="key_admin", role="admin", expires_at=datetime.now(UTC) + timedelta(hours=1)
)


class Ward:
    """A service whose handler fails for some keys until it is mended."""

    def __init__(self, bus: Bus, service: Service) -> None:
        self.bus, self.service = bus, service
        self.sick: set[tuple[str, int]] = set()
        service.reads(ProjectAdmitted, self.on_project)

    async def on_project(self, fact: ProjectAdmitted, tx: Transaction, _clock: Clock) -> None:
        if (fact.key, fact.version) in self.sick:
            raise ValueError("sick")
        await tx.change("INSERT INTO effect (key, version) VALUES ($1, $2)", fact.key, fact.version)

    async def effects(self) -> list[tuple[str, int]]:
        async with self.service.store.transaction() as tx:
            rows = await tx.rows("SELECT key, version FROM effect ORDER BY at")
        return [(row["key"], row["version"]) for row in rows]

    async def letters(self, **page: Any) -> DeadLetters:
        asked = await self.bus.ask(
            ListDeadLetters(**self.bus.wish(ADMIN), page=Page(**page)), owner="placement"
        )
        assert isinstance(asked, DeadLetters)
        return asked

    async def redrive(self, dead_letter_id: int) -> Any:
        wish = RedriveDeadLetter(**self.bus.wish(ADMIN), dead_letter_id=dead_letter_id)
        return await self.bus.ask(wish, owner="placement")

    async def buried(self) -> list[str]:
        return [letter.key for letter in (await self.letters()).items]


@pytest.fixture
async def ward(
    nats_server: NatsServer, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ward]:
    monkeypatch.setattr("meshkit.reader.RETRY_WAITS_S", (0.01, 0.01, 0.01, 0.01))
    bus = await connected(tmp_path, nats_server.url, "inference-gateway")
    await declare(bus)
    dsn = postgres.dsn("placement")
    store = await opened(dsn, "placement")
    async with store.transaction() as tx:
        await tx.change("CREATE TABLE effect (key text, version bigint, at bigserial)")
    await store.close()
    service = Service("placement", settings(tmp_path, nats_server.url, dsn))
    built = Ward(bus, service)
    await service.start()
    yield built
    await service.stop()
    await bus.close()


async def test_a_dead_letter_says_why_and_has_its_effect_once_its_cause_is_mended(ward: Ward) -> None:
    ward.sick.add(("project-1", 1))
    await tell(ward.bus, admitted("project-1", version=1))
    await eventually(ward.buried, ["project-1"])
    (letter,) = (await ward.letters()).items
    assert (letter.reader, letter.stream, letter.tag) == (
        "placement_IDENTITY_00",
        "IDENTITY",
        "identity.project.admitted/1",
    )
    assert letter.reason == "ValueError: sick"
    still = await ward.redrive(letter.dead_letter_id)
    assert isinstance(still, Problem)
    assert still.code == "still_fails"
    ward.sick.clear()
    assert isinstance(await ward.redrive(letter.dead_letter_id), Empty)
    assert await ward.effects() == [("project-1", 1)]
    assert await ward.buried() == []
    gone = await ward.redrive(letter.dead_letter_id)
    assert isinstance(gone, Problem)
    assert gone.status == 404


async def test_a_redrive_is_refused_where_its_key_has_moved_past_it(ward: Ward) -> None:
    ward.sick.add(("project-1", 1))
    await tell(ward.bus, admitted("project-1", version=1), admitted("project-1", version=2))
    await eventually(ward.effects, [("project-1", 2)])
    ward.sick.clear()
    (letter,) = (await ward.letters()).items
    refused = await ward.redrive(letter.dead_letter_id)
    assert isinstance(refused, Problem)
    assert (refused.status, refused.code) == (409, "superseded")
    assert await ward.effects() == [("project-1", 2)]


async def test_of_one_key_s_dead_letters_none_is_redriven_after_a_later_one(ward: Ward) -> None:
    ward.sick.update({("project-1", 1), ("project-1", 2)})
    await tell(ward.bus, admitted("project-1", version=1), admitted("project-1", version=2))
    await eventually(ward.buried, ["project-1", "project-1"])
    ward.sick.clear()
    first, second = (await ward.letters()).items
    assert isinstance(await ward.redrive(second.dead_letter_id), Empty)
    refused = await ward.redrive(first.dead_letter_id)
    assert isinstance(refused, Problem)
    assert refused.code == "superseded"
    assert await ward.effects() == [("project-1", 2)]


async def test_a_fact_that_could_not_be_read_is_judged_by_what_it_says_once_it_can(ward: Ward) -> None:
    fact = admitted("project-1", version=2)
    await tell(ward.bus, admitted("project-1", version=1))
    await eventually(ward.effects, [("project-1", 1)])
    # As an older program kept it, twice told and once forged: of ids and versions it knew nothing.
    async with ward.service.store.transaction() as tx:
        for place, stands_on in enumerate((fact, fact, admitted("other"))):
            await tx.change(
                "INSERT INTO dead_letter (reader, stream, subject, tag, key, version, fact_id, reason, tries,"
                " parked, payload, at) VALUES ('placement_IDENTITY_00', 'IDENTITY', $1, '', $2, 0, $3,"
                " 'cannot be decoded', 0, false, $4, $5)",
                *(subject_of(stands_on), stands_on.key, f"sequence_{place}", wire.encode(fact), tx.now),
            )
    letters = (await ward.letters()).items
    answers = [await ward.redrive(letter.dead_letter_id) for letter in letters]
    assert answers[:2] == [Empty(), Empty()]
    assert answers[2].code == "misplaced"
    assert await ward.effects() == [("project-1", 1), ("project-1", 2)]
    assert await ward.buried() == ["other"]


async def test_dead_letters_are_listed_page_by_page_oldest_first(ward: Ward) -> None:
    keys = [f"project-{number}" for number in range(5)]
    ward.sick.update((key, 1) for key in keys)
    await tell(ward.bus, *(admitted(key, version=1) for key in keys))
    await eventually(lambda: _sorted(ward), keys)
    first = await ward.letters(limit=3)
    second = await ward.letters(limit=3, cursor=first.next)
    assert len(first.items) == 3
    assert sorted(letter.key for letter in first.items + second.items) == keys
    assert second.next is None


async def _sorted(ward: Ward) -> list[str]:
    return sorted(await ward.buried())
