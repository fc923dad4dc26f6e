"""The admin step against a real server: it can be repeated, changed, and says what was refused."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from mesh_contracts import streams
from mesh_contracts.streams import BUCKETS, STREAMS, consumers, event_filters
from meshkit import declare as declaring
from meshkit.bus import Bus
from meshkit.declare import Undeclared, declare

from tests.servers_nats import NatsServer


async def info(bus: Bus, what: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((await bus.request(f"$JS.API.{what}", b"", within_s=5)).data)
    return told


async def test_everything_in_the_table_stands_and_saying_it_again_changes_nothing(bus: Bus) -> None:
    await declare(bus)
    names = sorted((await info(bus, "STREAM.NAMES"))["streams"])
    assert names == sorted(["EVENTS", *(f"KV_{b.name}" for b in BUCKETS), *(s.name for s in STREAMS)])
    before = {name: (await info(bus, f"STREAM.INFO.{name}"))["config"] for name in names}
    await declare(bus)
    assert {name: (await info(bus, f"STREAM.INFO.{name}"))["config"] for name in names} == before
    for spec in consumers():
        config = (await info(bus, f"CONSUMER.INFO.{spec.stream}.{spec.name}"))["config"]
        filters = config.get("filter_subjects") or [config["filter_subject"]]
        assert sorted(filters) == sorted(spec.filters)
        assert (config["ack_policy"], config["max_deliver"]) == ("explicit", -1)


async def test_streams_refuse_the_new_when_full_and_name_their_bounds(bus: Bus) -> None:
    await declare(bus)
    for spec in STREAMS:
        config = (await info(bus, f"STREAM.INFO.{spec.name}"))["config"]
        assert config["discard"] == "new"
        assert config["max_consumers"] == spec.max_consumers > 0
        assert config["max_bytes"] == spec.max_bytes > 0
        assert config["max_age"] == spec.max_age_s * 10**9


async def test_a_changed_bound_is_declared_anew_and_keeps_what_stands(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await declare(bus)
    await bus.store("carbon.a.b.fr-idf-1.00.x", b"kept")
    changed = tuple(msgspec.structs.replace(spec, max_age_s=3_600) for spec in STREAMS)
    monkeypatch.setattr(declaring, "STREAMS", changed)
    await declare(bus)
    assert (await info(bus, "STREAM.INFO.CARBON"))["config"]["max_age"] == 3_600 * 10**9
    kept = await bus.last("CARBON", "carbon.a.b.fr-idf-1.00.x")
    assert kept is not None
    assert kept.data == b"kept"


async def test_a_refused_declaration_says_which_and_why(bus: Bus) -> None:
    taken = {"name": "TAKEN", "subjects": ["carbon.>"]}
    await bus.request("$JS.API.STREAM.CREATE.TAKEN", json.dumps(taken).encode(), within_s=5)
    with pytest.raises(Undeclared, match="CARBON: subjects overlap"):
        await declare(bus)


async def test_events_holds_every_tenants_facts_and_no_others_in_one_order(
    bus: Bus, nats_server: NatsServer
) -> None:
    await declare(bus)
    told = [subject.replace(">", "fr-idf-1.00.k") for _, subject in event_filters()]
    others = [
        f"{tag.partition('/')[0]}.fr-idf-1.00.k"
        for tag, kind in streams.FACT_BY_TAG.items()
        if not kind.per_tenant
    ]
    assert told
    assert others
    for subject in told + others:
        await bus.store(subject, subject.encode())
    async with asyncio.timeout(10):
        while (await info(bus, "STREAM.INFO.EVENTS"))["state"]["messages"] < len(told):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    kept = [await bus.at("EVENTS", sequence) for sequence in range(1, len(told) + 1)]
    assert sorted(each.subject for each in kept if each is not None) == sorted(told)
    assert await bus.at("EVENTS", len(told) + 1) is None
