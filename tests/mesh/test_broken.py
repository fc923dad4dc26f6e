"""A mesh is broken in every way we can think of; each time it says so, mends itself, and the sums close."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from mesh_contracts import wire
from mesh_contracts.fact import subject_of
from mesh_contracts.inference import UsageMetered, UsageRow
from mesh_tools.demo.client import Answered
from meshkit.ears import DELIVER_MAX
from meshkit.store import OUTBOX_ROWS_MAX
from meshkit.testing import envelope, test_id

from tests.mesh.harness import Mesh, running, until
from tests.mesh.insides import bus_as, chat_engine, command, complaints, dead_letters, runs
from tests.mesh.test_faults import assert_the_ledger_agrees, goes_on
from tests.mesh.traffic import Seen, Traffic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

JOURNAL_BYTES = 1024**2
KILLS, KILLS_MAX, CUT = 3, 8, 2
"""Kills at least and at most, and how many answers they must have cut."""
AGENTS_AWAY_S = 20.0
NODES = ("node-1", "node-2")
SERVICES = ("identity", "placement", "metering", "carbon-accounting", "inference-gateway")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder: Path = tmp_path_factory.mktemp("broken")
    bounds = {"GATEWAY_JOURNAL_BYTES_MAX": str(JOURNAL_BYTES)}
    with running(folder, environment=bounds) as started:
        yield started


@pytest.fixture(autouse=True)
def complaints_meant(mesh: Mesh) -> Iterator[list[str]]:
    """Trouble that is expected leaves no traceback in any log, but those with these words."""
    before = complaints(mesh, *SERVICES, *NODES)
    meant: list[str] = []
    yield meant
    new = complaints(mesh, *SERVICES, *NODES)[len(before) :]
    assert len(new) == len(meant)
    assert all(any(words in line for line in new) for words in meant), new


def cut_midway(one: Seen) -> bool:
    return one.status == 200 and one.usage is None


def test_what_is_billed_after_kills_of_the_gateway_is_seen_and_was_made(mesh: Mesh) -> None:
    engine = until("one chat engine runs", 20.0, lambda: chat_engine(mesh))
    made_before = engine.tokens_made()
    with Traffic(mesh.tenant, tokens=300) as traffic:
        for kill in range(KILLS_MAX):
            # Some kills find everybody between two answers.
            if kill >= KILLS and sum(cut_midway(one) for one in traffic.seen) >= CUT:
                break
            goes_on(traffic, more=2)
            killed = mesh.kill("inference-gateway")
            mesh.wait_restarted("inference-gateway", killed)
        goes_on(traffic)
    assert_the_ledger_agrees(mesh, traffic.seen)
    admitted = [one for one in traffic.seen if one.status == 200]
    cut = [one for one in admitted if cut_midway(one)]
    billed = [mesh.record(one.request_id)["usage"] for one in admitted]
    assert len(cut) >= CUT, "the kills cut nothing"
    assert all(
        row["state"] == "aborted" for row, one in zip(billed, admitted, strict=True) if one in cut
    )
    assert chat_engine(mesh) == engine, "the engine was there all the time"
    made = engine.tokens_made() - made_before
    assert sum(row["completion_tokens"] or 0 for row in billed) <= made


def usage_batch(name: str, version: int = 1, **fields: Any) -> UsageMetered:
    producer = test_id("producer", name)
    told = {
        "request_id": test_id("request", f"{name}/{version}"),
        "organization": test_id("org", name),
        "project": test_id("project", name),
        "key_id": test_id("key", name),
        "endpoint_id": test_id("endpoint", name),
        "model": "tiny",
        "route": "/v1/chat/completions",
        "streamed": False,
        "started_at": envelope(producer)["occurred_at"],
        "ended_at": envelope(producer)["occurred_at"],
        "state": "completed",
        "status": 200,
        "tokens_from": "engine",
        "prompt_tokens": 1,
        "completion_tokens": 1,
        **fields,
    }
    row = UsageRow(**told)
    common = envelope(producer, version=version)
    return UsageMetered(**common, producer=producer, epoch=1, sequence=version, rows=[row])


def test_a_poison_message_is_buried_within_its_bound_and_the_queue_goes_on(
    mesh: Mesh, complaints_meant: list[str]
) -> None:
    name = f"poison-{time.time_ns()}"
    # It is well-formed, and no database takes it: the handler fails each time.
    poison = usage_batch(name, reason="a\0b")
    unreadable = wire.encode(usage_batch(name, 2)).replace(b'"completed"', b'"comp\\u0000leted"')
    follower = usage_batch(name, 3)

    async def tell() -> None:
        async with bus_as(mesh, "inference-gateway") as bus:
            for raw, fact in (
                (wire.encode(poison), poison),
                (unreadable, usage_batch(name, 2)),
                (wire.encode(follower), follower),
            ):
                await bus.store(subject_of(fact), raw, msg_id=f"{name}/{fact.version}")

    with Traffic(mesh.tenant) as traffic:
        asyncio.run(tell())
        goes_on(traffic, more=10)

        def buried() -> list[dict[str, Any]] | None:
            letters = [one for one in dead_letters(mesh, "metering") if one["key"] == poison.key]
            return letters if len(letters) == 2 else None

        letters = until("both are dead letters", 30.0, buried)
    by_tries = {letter["tries"]: letter for letter in letters}
    assert by_tries[DELIVER_MAX]["fact_id"] == poison.fact_id
    assert "cannot be decoded" in min(letters, key=lambda one: int(one["tries"]))["reason"]
    mesh.record(follower.rows[0].request_id)
    assert_the_ledger_agrees(mesh, traffic.seen)
    for letter in letters:
        done = command(mesh, "dead-letter", "redrive", "metering", str(letter["dead_letter_id"]))
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert done.stderr.strip(), "the refusal says why"
    # Where it failed is told once as it is given up, and once more by the redrive that failed.
    complaints_meant += ["CharacterNotInRepertoire"] * 2


def test_a_full_journal_refuses_before_admission_and_loses_nothing(mesh: Mesh) -> None:
    frozen = mesh.kill("metering", signal.SIGSTOP)
    try:
        with Traffic(mesh.tenant, tokens=60) as traffic:
            until(
                "the journal is full",
                40.0,
                lambda: True if any(one.status == 503 for one in traffic.seen) else None,
            )
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    refused = [one for one in traffic.seen if one.status == 503]
    assert all("journal_full" in one.error for one in refused), refused[0]
    assert all(one.usage is not None for one in traffic.seen if one.status == 200)
    with Traffic(mesh.tenant) as again:
        goes_on(again)
    assert_the_ledger_agrees(mesh, traffic.seen)
    answered = [mesh.operator.call("GET", f"/api/v1/requests/{one.request_id}") for one in refused[:3]]
    assert [one.status for one in answered] == [404] * len(answered), (refused, answered[0].body)


def test_a_full_outbox_refuses_wishes_answers_questions_and_recovers(mesh: Mesh) -> None:
    fill = (
        "INSERT INTO outbox (kind, partition, subject, key, version, msg_id, payload, created_at)"
        " SELECT 'fact', 99, 'nowhere', 'k', 1, 'full-' || n, '', now() FROM generate_series(1, $1) AS n"
    )

    async def change(statement: str, *arguments: Any) -> None:
        connection = await asyncpg.connect(mesh.ready["postgres_dsn"], database="mesh_identity")
        try:
            await connection.execute(statement, *arguments)
        finally:
            await connection.close()

    def wish() -> Answered:
        return mesh.operator.call("POST", "/api/v1/organizations", {"name": f"full-{time.time_ns()}"})

    # Rows of a partition that nobody relays: they wait as if the bus took nothing.
    asyncio.run(change(fill, OUTBOX_ROWS_MAX))
    try:
        refused = until(
            "a wish is refused", 20.0, lambda: one if (one := wish()).status != 201 else None
        )
        assert mesh.operator.get("/api/v1/organizations")["items"]
        chat = {"model": "tiny", "max_tokens": 2, "messages": [{"role": "user", "content": "on"}]}
        assert mesh.tenant.post("/v1/chat/completions", chat).status == 200
    finally:
        asyncio.run(change("DELETE FROM outbox WHERE partition = 99"))
    assert (refused.status, refused.body["code"]) == (503, "outbox_full")
    until("wishes are taken again", 20.0, lambda: True if wish().status == 201 else None)


def test_an_engines_shim_is_killed_and_the_engine_is_replaced(mesh: Mesh) -> None:
    engine = until("one chat engine runs", 20.0, lambda: chat_engine(mesh))
    with Traffic(mesh.tenant) as traffic:
        goes_on(traffic)
        os.kill(engine.shim, signal.SIGKILL)
        until(
            "another engine runs",
            30.0,
            lambda: True if (now := chat_engine(mesh)) and now.pid != engine.pid else None,
        )
        goes_on(traffic)
    assert not runs(engine.pid)
    assert_the_ledger_agrees(mesh, traffic.seen)


def test_a_hung_engine_is_found_by_its_probes_and_replaced(mesh: Mesh) -> None:
    engine = until("one chat engine runs", 20.0, lambda: chat_engine(mesh))
    with Traffic(mesh.tenant) as traffic:
        goes_on(traffic)
        os.kill(engine.pid, signal.SIGSTOP)
        goes_on(traffic, seconds=40.0)
    assert not runs(engine.pid)
    assert_the_ledger_agrees(mesh, traffic.seen)


def test_every_agent_is_away_for_a_while_and_requests_flow_on(mesh: Mesh) -> None:
    with Traffic(mesh.tenant, callers=1, tokens=64) as traffic:
        goes_on(traffic)
        frozen = mesh.kill("node-agent", signal.SIGSTOP)
        try:
            until_at = time.monotonic() + AGENTS_AWAY_S
            while time.monotonic() < until_at:
                goes_on(traffic, more=5)
                time.sleep(0.5)
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)

        def whole() -> bool | None:
            nodes = mesh.operator.get("/api/v1/nodes")["items"]
            return True if {node["state"] for node in nodes} == {"ready"} else None

        until("both nodes are back", 30.0, whole)
        goes_on(traffic)
    assert_the_ledger_agrees(mesh, traffic.seen)
