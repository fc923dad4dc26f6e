"""Metering on a closed bus: batches from a gateway's journal to the ledger, and the mark back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mesh_contracts import wire
from mesh_contracts.ask import Empty, ListDeadLetters, Problem, RedriveDeadLetter
from mesh_contracts.fact import subject_of
from mesh_contracts.inference import ROWS_MAX, UsageMetered, UsageRow
from mesh_contracts.metering import (
    GetRequest,
    ListPrices,
    ListUsage,
    ProducerMark,
    RequestRecord,
    UsageRated,
)
from meshkit.bucket import Watched
from meshkit.bus import Bus
from meshkit.config import Secret
from meshkit.service import Service
from meshkit.spans import parsed
from meshkit.testing import NOW, envelope, test_id
from metering.app import assemble
from metering.domain import rate
from metering.settings import MeteringSettings
from nats.aio.msg import Msg

from tests.adapters.roads import until
from tests.adapters.services import ADMIN, connected, told
from tests.closed_bus import ClosedBus, closed_bus
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

PRODUCER, PROJECT = test_id("gateway", "g1"), test_id("project", "demo")


class Room:
    """Metering running, and a gateway that tells it usage."""

    def __init__(self, bus: ClosedBus, folder: Path, dsn: str) -> None:
        self.bus = bus
        self.folder = folder
        self.dsn = dsn
        self.gateway: Bus
        self.marks: Watched[ProducerMark]
        self.service: Service

    async def start(self) -> None:
        given = told(self.bus, self.folder, "metering", mesh_trace_dir=self.folder / "traces")
        self.service = assemble(MeteringSettings(**given, postgres_dsn=Secret(self.dsn)))
        await self.service.start()

    async def tell(self, *batches: UsageMetered) -> None:
        for one in batches:
            await self.gateway.store(subject_of(one), wire.encode(one), msg_id=one.fact_id)

    def mark(self) -> ProducerMark | None:
        return self.marks.values.get(f"producer.{PRODUCER}")

    def held_to(self, epoch: int, sequence: int) -> bool:
        mark = self.mark()
        return mark is not None and (mark.epoch, mark.sequence) == (epoch, sequence)

    async def ask(self, kind: Any, **fields: Any) -> Any:
        return await self.gateway.ask(kind(**self.gateway.wish(ADMIN), **fields), owner="metering")


@asynccontextmanager
async def open_room(folder: Path, dsn: str) -> AsyncIterator[Room]:
    async with closed_bus() as bus:
        room = Room(bus, folder, dsn)
        await room.start()
        room.gateway = await connected(bus, folder, "inference-gateway")
        room.marks = await Watched.open(room.gateway, "limits")
        try:
            yield room
        finally:
            await room.marks.close()
            await room.gateway.close()
            await room.service.stop()


@pytest.fixture
async def room(tmp_path: Path, postgres: PostgresServer) -> AsyncIterator[Room]:
    async with open_room(tmp_path, postgres.dsn("metering")) as room:
        yield room


def row(name: str, **fields: Any) -> UsageRow:
    given = {
        "request_id": test_id("request", name),
        "organization": test_id("org", "o"),
        "project": PROJECT,
        "key_id": test_id("key", "k"),
        "endpoint_id": test_id("endpoint", "e"),
        "model": "tiny",
        "route": "chat",
        "streamed": True,
        "started_at": NOW,
        "ended_at": NOW + timedelta(seconds=1),
        "state": "completed",
        "status": 200,
        "tokens_from": "engine",
        "prompt_tokens": 10,
        "completion_tokens": 20,
    }
    return UsageRow(**{**given, **fields})


def batch(sequence: int, *rows: UsageRow, epoch: int = 1, trace: str | None = None) -> UsageMetered:
    name = f"{epoch}/{sequence}"
    return UsageMetered(
        **envelope(
            PRODUCER, fact_id=test_id("fact", name), version=epoch * 1000 + sequence, traceparent=trace
        ),
        producer=PRODUCER,
        epoch=epoch,
        sequence=sequence,
        rows=list(rows) or [row(name)],
    )


async def test_a_batch_becomes_lines_a_bill_and_a_mark(room: Room) -> None:
    await room.tell(batch(1), batch(2))
    await until(lambda: room.held_to(1, 2))
    usage = (await room.ask(ListUsage)).items
    assert [
        (one.requests, one.prompt_tokens, one.completion_tokens, one.cost_microeur) for one in usage
    ] == [(2, 20, 40, 7)]
    record = await room.ask(GetRequest, request_id=test_id("request", "1/1"))
    assert isinstance(record, RequestRecord)
    absent = await room.ask(GetRequest, request_id=test_id("request", "never"))
    assert isinstance(absent, Problem)
    assert (absent.status, absent.retry_after_s) == (404, 2)
    assert len((await room.ask(ListPrices)).items) == 3


async def test_a_batch_told_again_after_newer_ones_heals_the_gap_it_left(room: Room) -> None:
    await room.tell(batch(1), batch(3), batch(4))
    await until(lambda: (mark := room.mark()) is not None and mark.missing == [(1, 2)])
    # Older in version than what the ledger has gone past: order is not what makes it right.
    await room.tell(batch(2))
    await until(lambda: room.held_to(1, 4))
    assert (await room.ask(ListUsage)).items[0].requests == 4


async def test_a_batch_that_was_given_up_on_is_not_lost_though_newer_ones_have_passed_it(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshkit.reader.RETRY_WAITS_S", (0.01, 0.01, 0.01, 0.01))
    lost = {batch(sequence).rows[0].request_id for sequence in (2, 3)}
    true_rate = rate.rate

    def failing(rows: list[UsageRow], *args: Any) -> rate.Rated:
        if any(row.request_id in lost for row in rows):
            raise ValueError("a mistake of ours")
        return true_rate(rows, *args)

    monkeypatch.setattr(rate, "rate", failing)
    await room.tell(*(batch(sequence) for sequence in (1, 2, 3, 4)))
    await until(lambda: (mark := room.mark()) is not None and mark.missing == [(1, 2), (1, 3)])
    monkeypatch.setattr(rate, "rate", true_rate)
    second, third = sorted((await room.ask(ListDeadLetters)).items, key=lambda one: one.dead_letter_id)
    again = await room.ask(RedriveDeadLetter, dead_letter_id=second.dead_letter_id)
    assert isinstance(again, Empty)
    await until(lambda: room.held_to(1, 2))
    # The other one is told again by its gateway, which keeps it until the mark has passed it.
    await room.gateway.store(subject_of(batch(3)), wire.encode(batch(3)), msg_id="3 again")
    await until(lambda: room.held_to(1, 4))
    assert isinstance(await room.ask(RedriveDeadLetter, dead_letter_id=third.dead_letter_id), Empty)
    assert (await room.ask(ListUsage)).items[0].requests == 4
    assert (await room.ask(ListDeadLetters)).items == []


async def test_batches_told_twice_and_while_metering_is_away_stand_in_the_ledger_once(
    room: Room,
) -> None:
    await room.tell(batch(1))
    await until(lambda: room.held_to(1, 1))
    await room.service.stop()
    for again in range(2):
        for sequence in (1, 2, 3):
            one = batch(sequence)
            await room.gateway.store(
                subject_of(one), wire.encode(one), msg_id=f"{sequence} again {again}"
            )
    await room.start()
    await until(lambda: room.held_to(1, 3))
    assert (await room.ask(ListUsage)).items[0].requests == 3


@pytest.mark.parametrize("bound", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:00:00-02:00"])
async def test_usage_since_what_is_no_moment_is_refused_in_words(room: Room, bound: str) -> None:
    answer = await room.ask(ListUsage, since=datetime.fromisoformat(bound))
    assert isinstance(answer, Problem)
    assert (answer.status, answer.code, answer.param) == (422, "invalid_time", "since")


async def test_a_bucket_that_lost_the_mark_gets_it_back_from_the_ledger_at_the_next_start(
    room: Room,
) -> None:
    await room.tell(batch(1), batch(1, epoch=2), batch(2, epoch=2))
    await until(lambda: room.held_to(2, 2))
    await room.service.stop()
    async with room.bus.caller("admin") as admin:
        await admin.client.request("$JS.API.STREAM.PURGE.KV_limits", b"", timeout=5)
    await room.marks.close()
    room.marks = await Watched.open(room.gateway, "limits")
    assert room.mark() is None
    await room.start()
    await until(lambda: room.held_to(2, 2))
    mark = room.mark()
    assert mark is not None
    assert mark.earlier == [(1, 1)]


async def test_a_full_batch_of_real_rows_fits_on_the_bus_and_into_the_ledger(room: Room) -> None:
    rows = [
        row(
            f"full {number}",
            traceparent=f"00-{number + 1:032x}-{number + 1:016x}-00",
            reason="the client left before the end",
            workload_id=test_id("workload", "w"),
            node_id=test_id("node", "n"),
            first_token_us=12345,
            queue_us=12,
            cached_tokens=4,
        )
        for number in range(ROWS_MAX)
    ]
    rated: list[UsageRated] = []

    async def hear(message: Msg) -> None:
        if message.subject.startswith("metering.usage.rated."):
            rated.append(wire.decode(message.data, UsageRated))

    async with room.bus.caller("observer") as observer:
        await observer.client.subscribe("metering.>", cb=hear)
        await observer.settle()
        await room.tell(batch(1, *rows))
        await until(lambda: room.held_to(1, 1) and bool(rated))
    assert len(rated[0].rows) == ROWS_MAX
    assert (await room.ask(ListUsage)).items[0].requests == ROWS_MAX


async def test_each_line_adds_a_span_to_its_requests_own_trace_linked_to_the_batch(room: Room) -> None:
    ours, unsampled = f"00-{'ab' * 16}-{'cd' * 8}-01", f"00-{'ba' * 16}-{'dc' * 8}-00"
    zero = f"00-{'0' * 32}-{'0' * 16}-01"
    assert parsed(zero) is None
    await room.tell(
        batch(
            1,
            row("kept", traceparent=ours),
            row("not kept", traceparent=unsampled),
            row("invalid", traceparent=zero),
            row("none"),
            trace=f"00-{'12' * 16}-{'34' * 8}-01",
        )
    )
    folder = room.folder / "traces"
    await until(lambda: "ledger.record" in _text(folder))
    spans = [one for one in _spans(folder) if one["name"] == "ledger.record"]
    assert [(one["trace_id"], one["parent_id"]) for one in spans] == [("ab" * 16, "cd" * 8)]
    assert spans[0]["attributes"]["mesh.request_id"] == test_id("request", "kept")
    assert "12" * 16 in str(spans[0]["links"])


def _text(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*.jsonl"))


def _spans(folder: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in _text(folder).splitlines() if line.endswith("}")]
