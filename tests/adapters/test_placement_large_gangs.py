"""Gangs of many members: what a thousand facts lead to is seen to a few times, not a thousand."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from mesh_contracts.ask import Problem
from mesh_contracts.node import WorkloadStarted, WorkloadStopped
from mesh_contracts.placement import Resources, SubmitJob
from meshkit.declare import declare
from meshkit.testing import envelope, test_id, wish
from meshkit.together import Asked
from placement import handlers, later, members, submitting, work
from placement.domain.members import Member

from tests.adapters.fleet import PROJECT, TENANT, Node, Site
from tests.adapters.holdings import RUN, cancel, job_of, servers, submit
from tests.adapters.roads import connected, tell
from tests.adapters.standby import Processes, beat
from tests.adapters.watched import Hall
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

MEMBERS = 6
LARGEST = 4_096
LOOK_EVERY_S = 0.5


async def gang(hall: Hall, name: str = "train") -> list[Member]:
    """Return the members of a job on one node."""
    ask = SubmitJob(
        **wish(ask_id=test_id("ask", name)),
        name=name,
        project=PROJECT,
        members=MEMBERS,
        resources=Resources(memory_mib=1),
        command=RUN,
    )
    async with hall.store.transaction() as tx:
        await handlers.on_project_admitted(Site.admitted(PROJECT, "demo"), tx, hall.clock)
    async with hall.store.transaction() as tx:
        [made] = await submitting.submit_jobs([Asked(ask, TENANT)], tx, hall.clock)
        return await members.of_owner(tx, made.id, made.attempt)


def fact(kind: Any, member: Member) -> Any:
    born = envelope(member.node_id, fact_id=test_id("fact", f"{kind.__name__} {member.number}"))
    code = {"exit_code": 0} if kind is WorkloadStopped else {}
    return kind(**born, node_id=member.node_id, workload_id=member.workload_id, **code)


async def test_what_the_end_of_all_members_leads_to_is_seen_to_once_for_those_heard_together(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hall.join("n1")
    await hall.create("story", Resources(gpus=1))
    looks, settles = [], []

    async def look_at(tx: Any, cause: Any, now: Any, *owners: str, **fields: Any) -> None:
        looks.append(owners)
        await of_work(tx, cause, now, *owners)

    async def settle(*args: Any, **fields: Any) -> None:
        settles.append(args)
        await of_settle(*args, **fields)

    there = await gang(hall)
    of_work, of_settle = later.work.look_at, later.settle
    monkeypatch.setattr(later.work, "look_at", look_at)
    monkeypatch.setattr(later, "settle", settle)
    for kind, handler, settled in (
        (WorkloadStarted, handlers.on_workload_started, 0),
        (WorkloadStopped, handlers.on_workload_stopped, 1),
    ):
        looks.clear()
        async with hall.store.transaction() as tx:
            for member in there:
                await handler(fact(kind, member), tx, hall.clock)
        assert (len(looks), len(settles)) == (1, settled), kind
    async with hall.store.transaction() as tx:
        row = await tx.row("SELECT state, place FROM job")
    assert row == {"state": "succeeded", "place": "none"}
    assert await hall.told("placement.job.started") == 1
    assert await hall.told("placement.job.succeeded") == 1


async def test_whoever_ends_has_no_neighbour_looked_at_that_has_begun(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hall.join("n1")
    [first, *_], [neighbour, *_] = await gang(hall), await gang(hall, "other")
    looked: list[str] = []

    def judge(job: Any, *args: Any) -> Any:
        looked.append(job.job_id)
        return of_jobs(job, *args)

    of_jobs = work.jobs.judge
    monkeypatch.setattr(work.jobs, "judge", judge)
    async with hall.store.transaction() as tx:
        await handlers.on_workload_stopped(fact(WorkloadStopped, first), tx, hall.clock)
    assert set(looked) == {first.owner_id}
    # What is held back there may begin by now.
    async with hall.store.transaction() as tx:
        await tx.change("UPDATE member SET reasons = '[{}]' WHERE job_id = $1", neighbour.owner_id)
        assert await members.owners_on(tx, (), [first.node_id]) == [neighbour.owner_id]
        assert await members.owners_on(tx, [first.node_id]) == sorted(
            [first.owner_id, neighbour.owner_id]
        )


async def test_what_cannot_be_seen_to_takes_back_what_was_heard_with_it(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hall.join("n1")
    [first, *_] = await gang(hall)

    async def fails(*_args: Any, **_fields: Any) -> None:
        raise ValueError("it cannot be")

    monkeypatch.setattr(later, "settle", fails)
    with pytest.raises(ValueError, match="it cannot be"):
        async with hall.store.transaction() as tx:
            await handlers.on_workload_stopped(fact(WorkloadStopped, first), tx, hall.clock)
    monkeypatch.undo()
    async with hall.store.transaction() as tx:
        [again, *_] = await members.of_owner(tx, first.owner_id, 1)
        assert again.state == "assigned"
        await handlers.on_workload_stopped(fact(WorkloadStopped, first), tx, hall.clock)
    async with hall.store.transaction() as tx:
        [ended, *_] = await members.of_owner(tx, first.owner_id, 1)
    assert ended.state in {"stopped", "failed"}


async def tell_all(
    there: Sequence[tuple[Node, str]], told: Callable[[Node, str], Awaitable[None]]
) -> None:
    """Have many nodes tell of what they have, some at a time."""
    left = iter(there)
    while some := list(islice(left, 256)):
        await asyncio.gather(*(told(node, one) for node, one in some))


async def intended(site: Site, nodes: Sequence[Node], owner: str) -> list[tuple[Node, str]]:
    """Return all of a gang's members as its nodes are to run them, once they all are."""
    there: list[tuple[Node, str]] = []
    while len(there) < LARGEST:
        found = [(node, await site.intent(node)) for node in nodes]
        there = [
            (node, one.workload_id)
            for node, intent in found
            for one in intent.members
            if one.owner_id == owner
        ]
    return there


async def becomes(site: Site, state: str, name: str = "train") -> None:
    # All members are read each time: whoever looks often is what it waits for.
    while (await job_of(site, name)).state != state:  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(LOOK_EVERY_S)


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_the_largest_gang_begins_makes_way_begins_again_and_ends(
    nats_server: NatsServer,
    postgres: PostgresServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    took: dict[str, float] = {}

    @contextmanager
    def timed(what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        took[what] = time.monotonic() - began

    bus = await connected(tmp_path, nats_server.url, "inference-gateway")
    await declare(bus)
    processes = Processes(tmp_path, nats_server.url, postgres.dsn("placement"))
    service: Any = None
    site, beats = Site(bus, service), None
    shape = {"members": LARGEST, "resources": Resources(gpus=1, memory_mib=1), "restarts_max": 0}
    try:
        await processes.start()
        await tell(bus, site.admitted(PROJECT, "demo"))
        nodes = await servers(site, LARGEST // 8, gpus=8)
        beats = asyncio.create_task(beat(bus, nodes))
        with timed("submitted"):
            made = await submit(site, **shape)
        assert made.workloads_left == LARGEST - len(made.workloads)
        there = await intended(site, nodes, made.id)
        with timed("running"):
            await tell_all(there, lambda node, one: node.started(one))
            await becomes(site, "running")
        with timed("another submitted, for which it makes way"):
            urgent = await submit(site, "urgent", **shape, priority=500)
        assert urgent.state == "admitted", urgent.reasons
        with timed("gone"):
            await tell_all(there, lambda node, one: node.stopped(one, exit_code=0))
            others = await intended(site, nodes, urgent.id)
        with timed("the other cancelled"):
            assert not isinstance(await cancel(site, "urgent"), Problem)
        with timed("running again"):
            await tell_all(others, lambda node, one: node.stopped(one, exit_code=0))
            there = await intended(site, nodes, made.id)
            await tell_all(there, lambda node, one: node.started(one))
            await becomes(site, "running")
        with timed("succeeded"):
            await tell_all(there, lambda node, one: node.stopped(one, exit_code=0))
            await becomes(site, "succeeded")
    finally:
        if beats is not None:
            beats.cancel()
        processes.end()
        await bus.close()
    with capsys.disabled():
        said = ", ".join(f"{what} after {seconds:.1f} s" for what, seconds in took.items())
        sys.stdout.write(f"\na gang of {LARGEST} members on {len(nodes)} nodes: {said}\n")
