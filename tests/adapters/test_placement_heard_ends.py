"""Ends that only heartbeats tell, and starts that wait for the grid: with a real Postgres and a clock of our own."""

from datetime import date
from typing import Any

import msgspec
import pytest
from mesh_contracts.carbon import Factor, Signal
from mesh_contracts.node import WorkloadStarted, WorkloadStatus
from mesh_contracts.placement import Command, Intent, Job, Reason, Resources, SubmitJob
from meshkit.testing import envelope, test_id, wish
from meshkit.together import Asked
from placement import handlers, memory, reading, replicas, store, submitting
from placement.domain.fleet import WATTS_DRAWN
from placement.domain.health import Turn
from placement.heartbeats import ABSENT_AFTER_S
from placement.pulse import COMPARE_EVERY
from placement.turns import turn_node

from tests.adapters.fleet import ADMIN, PROJECT, Site
from tests.adapters.watched import SITE, Hall

pytestmark = pytest.mark.slow
LONG = int(ABSENT_AFTER_S) + 2 * COMPARE_EVERY


async def submit(hall: Hall, name: str, **more: Any) -> Job:
    async with hall.store.transaction() as tx:
        await handlers.on_project_admitted(Site.admitted(PROJECT, "demo"), tx, hall.clock)
        fields = {"members": 1, "resources": Resources(gpus=1)} | more
        ask = SubmitJob(**wish(), name=name, project=PROJECT, command=Command(image="run"), **fields)
        (made,) = await submitting.submit_jobs([Asked(ask, ADMIN)], tx, hall.clock)
    assert isinstance(made, Job), made
    return made


async def begin(hall: Hall, job: Job) -> None:
    for item in job.workloads:
        fact = WorkloadStarted(**envelope(item.node_id), node_id=item.node_id, workload_id=item.id)
        async with hall.store.transaction() as tx:
            await handlers.on_workload_started(fact, tx, hall.clock)
        hall.speaking[item.node_id] = [WorkloadStatus(workload_id=item.id, state="starting")]


async def states(hall: Hall) -> dict[str, str]:
    async with hall.store.transaction() as tx:
        return {row["name"]: row["state"] for row in await tx.rows("SELECT name, state FROM job")}


async def told_to_run(hall: Hall, node: str) -> list[str]:
    """Return the workloads that a node was told last to run."""
    async with hall.store.transaction() as tx:
        raw = await tx.value(
            "SELECT payload FROM outbox WHERE kind = 'put' AND subject = 'intents' AND key = $1 ORDER BY id DESC LIMIT 1",
            test_id("node", node),
        )
    intent = msgspec.json.decode(raw, type=Intent)
    return [one.workload_id for one in (*intent.workloads, *intent.members)]


async def test_whoever_has_the_place_of_one_that_ended_unheard_is_begun(hall: Hall) -> None:
    await hall.join("n1")
    victim = await submit(hall, "victim")
    await begin(hall, victim)
    await hall.pass_(3)
    dear = await submit(hall, "dear", priority=300)
    assert (dear.state, await told_to_run(hall, "n1")) == ("admitted", [])
    # Its agent stops it and lists it no more; what it told of that is lost.
    hall.speaking[test_id("node", "n1")] = []
    await hall.pass_(LONG)
    assert await told_to_run(hall, "n1") == [dear.workloads[0].id]


async def test_what_follows_from_one_end_does_not_make_the_next_repair_impossible(hall: Hall) -> None:
    await hall.join("n1", "n2")
    dear = await submit(hall, "dear", priority=300)
    await begin(hall, dear)
    there = dear.workloads[0].node_id
    async with hall.store.transaction() as tx:
        server = await reading.load_server(tx, there)
        assert server is not None
        reason = Reason(code="test", detail="test")
        to = Turn(state="cordoned", reasons=(reason,), check_wished=0, check_needed=0)
        await turn_node(tx, hall.pulse._occasion(), hall.clock.now(), server, to)
    cheap = await submit(hall, "cheap")
    # The one has ended, the other begun, and neither was told; the first gets the other's place.
    hall.speaking[there] = []
    (item,) = cheap.workloads
    hall.speaking[item.node_id] = [WorkloadStatus(workload_id=item.id, state="starting")]
    await hall.pass_(LONG)
    assert (await states(hall))["cheap"] == "preempted"
    hall.speaking[item.node_id] = []
    await hall.pass_(LONG)
    assert await states(hall) == {"dear": "admitted", "cheap": "queued"}


def signal(hall: Hall, grams: int) -> Signal:
    factor = Factor(
        factor_id="factor",
        zone="FR",
        carbon_mg_per_kwh=1_000 * grams,
        boundary="test",
        method="test",
        valid_from=date(2026, 1, 1),
        valid_until=None,
        source="test",
    )
    return Signal(site=SITE, factor=factor, at=hall.clock.now())


async def test_a_job_with_slack_waits_for_the_hour_in_which_the_grid_was_cleaner_the_day_before(
    hall: Hall,
) -> None:
    await hall.join("n1")
    for grams in (60, 60, 20, *[60] * 21, 60):
        hall.signals[f"intensity.{SITE}"] = signal(hall, grams)
        await hall.pass_(1)
        hall.clock.move(3_599)
    hall.signals[f"intensity.{SITE}"] = signal(hall, 60)
    await hall.pass_(1)
    waits = await submit(hall, "patient", slack_s=7_200)
    assert (waits.state, waits.reasons[0].code) == ("queued", "waits_for_the_grid")
    assert "60 g now" in waits.reasons[0].detail
    assert "20 g" in waits.reasons[0].detail
    assert (await submit(hall, "hasty")).state == "admitted"
    assert await states(hall) == {"patient": "queued", "hasty": "admitted"}


async def test_a_replica_that_ended_before_it_began_stays_ended(hall: Hall) -> None:
    # It was among those to begin when the tick looked, and its endpoint was settled without it before its turn came.
    await hall.join("n1")
    placed = await hall.create()
    now = hall.clock.now()
    async with hall.store.transaction() as tx:
        await memory.hold(tx, SITE)
        await store.move(tx, placed, "assigned", now, (WATTS_DRAWN,))
        waits = await replicas.held_back(tx, SITE)
        assert waits == [placed.workload_id]
        item = await reading.load_workload(tx, placed.workload_id)
        assert item is not None
        await replicas.stop(tx, item, now, item.reasons)
        await replicas.begin_late(tx, SITE, waits, now)
    [after] = await hall.workloads(placed.endpoint_id)
    assert (after.state, after.held_back) == ("stopped", False)
