"""Asks that place, many to a commit, against a real Postgres: each answered seat stands there, and once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from mesh_contracts.ask import Principal, Problem
from mesh_contracts.identity import ProjectAdmitted
from mesh_contracts.node import Device, HealthChanged, NodeJoined
from mesh_contracts.placement import CancelJob, Command, Job, Resources, SubmitJob
from mesh_contracts.units import derived_id
from meshkit.clock import SystemClock
from meshkit.config import Secret
from meshkit.store import Store
from meshkit.testing import envelope, test_id
from meshkit.together import Asked, TogetherDoor
from placement import handlers, memory
from placement.app import MIGRATIONS
from placement.job_asks import cancel_jobs
from placement.submitting import submit_jobs

from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

SITE = "fr-idf-1"
NODES, GPUS = 3, 8
CLOCK = SystemClock()
NOBODY = Principal(principal_id="test", role="admin", expires_at=CLOCK.now() + timedelta(hours=1))


def asked_now(name: str) -> dict[str, Any]:
    """Return the envelope of an ask that waits ten seconds for its answer."""
    now = CLOCK.now()
    deadline = now + timedelta(seconds=10)
    return {"ask_id": derived_id("ask", now, name), "asked_at": now, "deadline": deadline, "site": SITE}


class Hall:
    """A store with nodes, and a door that reserves seats on them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.door = TogetherDoor(
            {SubmitJob: submit_jobs, CancelJob: cancel_jobs}, clock=CLOCK, store=store
        )

    async def join(self) -> None:
        project = test_id("project")
        born = envelope(project, organization=test_id("org"), project=project)
        async with self.store.transaction() as tx:
            known = ProjectAdmitted(**born, name="demo", organization_name="acme")
            await handlers.on_project_admitted(known, tx, CLOCK)
        for number in range(NODES):
            node_id = test_id("node", f"n{number}")
            devices = [
                Device(device_id=f"g{n}", index=n, model="r", memory_mib=1, rehearsal=True)
                for n in range(GPUS)
            ]
            joined = NodeJoined(
                **envelope(node_id),
                node_id=node_id,
                name=f"n{number}",
                jurisdiction="FR",
                devices=devices,
                memory_mib=1_000_000,
                cpus=2,
                address="127.0.0.1",
                agent_version="test",
            )
            passed = HealthChanged(
                **envelope(node_id), node_id=node_id, verdict="pass", level="quick", check=0, checks=[]
            )
            async with self.store.transaction() as tx:
                await handlers.on_node_joined(joined, tx, CLOCK)
                await handlers.on_health_changed(passed, tx, CLOCK)

    async def ask(
        self, number: int, *, members: int = 1, terms: dict[str, Any] | None = None, **shape: Any
    ) -> Any:
        wish = SubmitJob(
            **asked_now(f"{number}"),
            idempotency_key=f"key {number}",
            name=f"job-{number}",
            project="demo",
            command=Command(image="i"),
            members=members,
            resources=Resources(**(shape or {"gpus": 1})),
            **({"preemptible": False} | (terms or {})),
        )
        return await self.door(wish, NOBODY)

    async def cancel(self, *wishes: tuple[str, int | None]) -> list[Any]:
        """Cancel jobs, by id or name and from a generation, in one transaction."""
        asked = []
        for number, (job, generation) in enumerate(wishes):
            ask = CancelJob(**asked_now(f"cancel {number}"), job=job, generation=generation)
            asked.append(Asked(ask, NOBODY))
        async with self.store.transaction(changes=True) as tx:
            return await cancel_jobs(asked, tx, CLOCK)

    async def sound(self, answers: list[Any]) -> None:
        """Look that tables, memory and answers say the same, and no card is given twice."""
        async with self.store.transaction() as tx:
            held = await memory.hold(tx, SITE)
            rows = await tx.rows("SELECT node_id, card, taken_milli FROM device")
        taken = {(row["node_id"], row["card"]): row["taken_milli"] for row in rows}
        seats = {name: held.engine.seats(one.parts)[0] for name, one in held.engine.holdings.items()}
        given: Counter[tuple[str, int]] = Counter()
        for seat in seats.values():
            for card in seat.cards:
                given[seat.node, card] += seat.milli_each
        assert {place: milli for place, milli in taken.items() if milli} == dict(given)
        assert max(given.values()) <= 1_000
        said = {one.id: one.workloads[0].node_id for one in answers if admitted(one)}
        assert said == {name: seat.node for name, seat in seats.items()}


def admitted(answer: Any) -> bool:
    return isinstance(answer, Job) and answer.state == "admitted"


@pytest.fixture
async def hall(postgres: PostgresServer) -> AsyncIterator[Hall]:
    store = await Store.connect(
        Secret(postgres.dsn("placement")), owner="placement", clock=CLOCK, migrations=MIGRATIONS
    )
    hall = Hall(store)
    await hall.join()
    yield hall
    await store.close()


async def test_of_more_than_fit_as_many_as_fit_are_reserved_and_none_twice(hall: Hall) -> None:
    answers = await asyncio.gather(*(hall.ask(number) for number in range(100)))
    assert Counter(one.state for one in answers) == {"admitted": NODES * GPUS, "queued": 76}
    again = await asyncio.gather(*(hall.ask(number) for number in range(100)))
    assert [one.id for one in again] == [one.id for one in answers], "they were asked already"
    await hall.sound(answers)


async def test_shares_of_cards_add_up_to_whole_ones_and_no_more(hall: Hall) -> None:
    shapes = ({"gpu_milli": 250}, {"gpus": 1}, {"gpu_milli": 600}, {"gpus": 3})
    answers = await asyncio.gather(*(hall.ask(number, **shapes[number % 4]) for number in range(120)))
    await hall.sound(answers)


async def test_a_commit_that_fails_takes_nothing_and_the_same_asks_are_answered_later(
    hall: Hall, postgres: PostgresServer
) -> None:
    before = await hall.ask(0)
    asking = [asyncio.create_task(hall.ask(number)) for number in range(1, 12)]
    # Under way, and not answered.
    await asyncio.sleep(0.008)
    postgres.kill()
    answers = await asyncio.gather(*asking)
    assert {one.status for one in answers if isinstance(one, Problem)} == {503}
    await asyncio.to_thread(postgres.start)
    again = await asyncio.gather(*(hall.ask(number) for number in range(12)))
    assert all(admitted(one) for one in again), again
    assert again[0] == before
    await hall.sound(again)


async def test_one_whose_transaction_is_refused_leaves_the_memory_as_it_was(hall: Hall) -> None:
    await hall.ask(0)
    async with hall.store.transaction() as tx:
        engine = (await memory.hold(tx, SITE)).engine
        before = engine.snapshot()
        # Somebody writes past placement: its sums are the second statement of the rule.
        await tx.change("UPDATE device SET taken_milli = 1000")
    with pytest.raises(Exception, match="taken_milli"):
        await hall.ask(1)
    async with hall.store.transaction() as tx:
        await tx.change("UPDATE device SET taken_milli = 0")
        assert (await memory.hold(tx, SITE)).engine.snapshot() == before


async def test_of_those_cancelled_together_each_is_answered_for_itself(hall: Hall) -> None:
    sits, waits, other = await hall.ask(0, members=3, gpus=8), await hall.ask(1), await hall.ask(2)
    answers = await hall.cancel(
        *((sits.id, 7), (waits.id, 1), ("nobody", None), (waits.name, 1), (sits.id, 1), (sits.id, 1))
    )
    codes = [one.code if isinstance(one, Problem) else one.state for one in answers]
    assert codes == ["generation_mismatch", "cancelled", "job_not_found", *["cancelled"] * 3]
    assert answers[1] == answers[3]
    assert [one.state for one in answers[4].workloads] == ["stopping"] * 3
    assert [one.generation for one in answers[3:5]] == [2, 2]
    assert (await hall.cancel((waits.id, None)))[0] == answers[1], "it has ended"
    async with hall.store.transaction() as tx:
        held = await memory.hold(tx, SITE)
        assert set(held.engine.holdings) == {sits.id}, "until its members have stopped"
        assert set(held.engine.turns.queue.entries) == {other.id}
        told = await tx.value("SELECT count(*) FROM outbox WHERE subject LIKE '%job.cancelled%'")
    assert told == 2


async def test_one_that_begins_as_another_is_cancelled_is_cancelled_with_it(hall: Hall) -> None:
    await hall.ask(0, members=2, gpus=8, terms={"run_max_s": 600})
    large, small = await hall.ask(1, members=3, gpus=8), await hall.ask(2, gpus=8)
    assert (large.state, small.state) == ("queued", "queued"), "room that is kept for the large one"
    answers = await hall.cancel((large.id, None), (small.id, None))
    assert [one.state for one in answers] == ["cancelled", "cancelled"]
    [member] = answers[1].workloads
    assert member.state == "stopping", "it had its seat"
    async with hall.store.transaction() as tx:
        held = await memory.hold(tx, SITE)
        taken = await tx.value("SELECT sum(taken_milli) FROM device")
        assert (small.id in held.engine.holdings, not held.engine.turns.queue.entries) == (True, True)
    assert taken == NODES * GPUS * 1_000


async def test_one_that_gets_its_seats_and_loses_them_by_what_follows_has_them_first(
    hall: Hall,
) -> None:
    # It was seated in the tables after another had its seats: the submission failed, on a card that was taken twice.
    async def submit(number: int, priority: int, min_run_s: int = 0) -> Any:
        terms = {"preemptible": True, "priority": priority, "min_run_s": min_run_s}
        return await hall.ask(number, members=NODES, gpus=GPUS, terms=terms)

    first = await submit(0, 50, min_run_s=1)
    best = await submit(1, 200)
    assert (first.state, best.state) == ("admitted", "queued"), "it may run for a second"
    await hall.cancel((first.id, None))
    await asyncio.sleep(1.1)
    # It has the first give way, which is over and waits no more: so the best is looked at again.
    middle = await submit(2, 100)
    assert getattr(middle, "state", middle) == "preempted"
    async with hall.store.transaction() as tx:
        held = await memory.hold(tx, SITE)
        assert set(held.engine.holdings) == {best.id}
        assert set(held.engine.turns.queue.entries) == {middle.id}
        rows = await tx.rows("SELECT job_id, place FROM job")
        taken = await tx.value("SELECT sum(taken_milli) FROM device")
    places = {row["job_id"]: row["place"] for row in rows}
    assert places == {first.id: "none", best.id: "sits", middle.id: "waits"}
    assert taken == NODES * GPUS * 1_000
