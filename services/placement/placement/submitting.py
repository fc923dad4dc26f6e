"""Jobs submitted within a few milliseconds of each other: decided one by one, written down together.

What is plain (it has its seats, it waits, it is refused) is written for all at once. Where others give way to
a job, or begin because of it, all before it is written first, and it takes the road of every other change
(``work``).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from mesh_contracts.ask import Principal, Problem
from mesh_contracts.placement import Job, Reason, SubmitJob
from mesh_contracts.units import derived_id
from meshkit.clock import Clock
from meshkit.errors import NotHeardYet
from meshkit.store import Transaction
from meshkit.together import Asked as TogetherAsked

from placement import intents, jobstore, members, memory, nodes, owners, reading, work
from placement.domain import jobs
from placement.domain.admit_work import JOBS_PER_PROJECT_MAX, bad_job
from placement.domain.engine.wish import Asked, Placed, Queued, Refused, Wish
from placement.domain.fleet import WATTS_DRAWN
from placement.domain.jobs import JobWish, WantedJob, show_job
from placement.domain.lacks import waits_for, why_not
from placement.domain.members import Member, Taken, Turn
from placement.domain.telling import begun, of_job, queued
from placement.domain.wishes import at_of, milliseconds, wish_of_job
from placement.naming import sees_all, taken, the_project
from placement.reading import Project
from placement.sitememory import Memory
from placement.sums import Devices, Take

TOO_MANY = Problem(
    title="Too many jobs",
    status=422,
    code="too_many_jobs",
    detail=f"a project may have {JOBS_PER_PROJECT_MAX} jobs that have not ended: cancel one, or wait",
)
Answer = Job | Problem | NotHeardYet


class _Decided(NamedTuple):
    """A job that is not written down yet, and what was decided about it."""

    number: int
    ask: SubmitJob
    job: WantedJob
    wish: Wish
    outcome: Placed | Queued | Refused


async def submit_jobs(asked: Sequence[TogetherAsked], tx: Transaction, clock: Clock) -> list[Answer]:
    """Decide each in the order in which they came; return for each the job as it is by then, or what is wrong."""
    batch = _Batch(tx, await memory.hold(tx, asked[0].ask.site), clock)
    named = await reading.find_projects(tx, sorted({ask.project for ask, _ in asked}))
    projects = [batch.admitted(ask, principal, named) for ask, principal in asked]
    await batch.look_up([(one, asked[n].ask.name) for n, one in enumerate(projects)])
    for number, ((ask, _), project) in enumerate(zip(asked, projects, strict=True)):
        if isinstance(project, Project):
            await batch.decide(number, ask, project)
        else:
            batch.answers[number] = project
    await batch.write()
    return [batch.answers[number] for number in range(len(asked))]


class _Living(dict[str, int]):
    """How many jobs of a project have not ended, at most: as counted once, with all that came since."""


class _Batch:
    def __init__(self, tx: Transaction, held: Memory, clock: Clock) -> None:
        self._tx, self._held, self._now = tx, held, clock.now()
        self._names: set[tuple[str, str]] = set()
        self._living: _Living = tx.beside.setdefault(_Living, _Living())
        self._decided: list[_Decided] = []
        self.answers: dict[int, Answer] = {}

    def admitted(
        self, ask: SubmitJob, principal: Principal, named: Mapping[str, Sequence[Project]]
    ) -> Project | Problem | NotHeardYet:
        """Return whose job it is to be; or what is wrong with it, whatever is free."""
        fault = bad_job(ask, operator=sees_all(principal))
        if fault is not None:
            return fault
        try:
            return the_project(ask.project, principal, named[ask.project])
        except NotHeardYet as unheard:
            return unheard

    async def look_up(self, wanted: Sequence[tuple[Any, str]]) -> None:
        """Learn which of the names are taken, and how many jobs each project has."""
        named = [(one.project_id, name) for one, name in wanted if isinstance(one, Project)]
        self._names = await jobstore.taken_names(self._tx, named)
        sure = JOBS_PER_PROJECT_MAX - len(named)
        near = {one for one, _ in named if self._living.get(one, JOBS_PER_PROJECT_MAX) > sure}
        if near:
            counted = await jobstore.counts(self._tx, sorted(near))
            self._living |= {one: counted[one] for one in near}

    async def decide(self, number: int, ask: SubmitJob, project: Project) -> None:
        """Have the engine decide about one."""
        name = (project.project_id, ask.name)
        if name in self._names:
            self.answers[number] = taken("a job", ask.name)
            return
        if self._living[project.project_id] >= JOBS_PER_PROJECT_MAX:
            self.answers[number] = TOO_MANY
            return
        job = _job_of(ask, project, self._now)
        wish = wish_of_job(job)
        outcome = self._held.apply(Asked(wish=wish, at=milliseconds(self._now)))
        assert isinstance(outcome, Placed | Queued | Refused), "a wish is placed, waits, or is refused"
        if not isinstance(outcome, Refused):
            self._names.add(name)
            self._living[project.project_id] += 1
        if not self._held.followed:
            self._decided.append(_Decided(number, ask, job, wish, outcome))
            return
        await self.write()
        await jobstore.keep_all(self._tx, [job])
        await work.decided(self._tx, ask, self._now, outcome, wish)
        again = await jobstore.load(self._tx, job.job_id)
        assert again is not None, "it was kept in this transaction"
        there = await members.of_owner(self._tx, job.job_id, again.attempt)
        self.answers[number] = show_job(owners.in_line(self._tx, again), there, self._now)

    async def write(self) -> None:
        """Write down all that was decided and is not written yet."""
        decided, self._decided = self._decided, []
        if not decided:
            return
        tx = self._tx
        takes = [
            Take(seat.node, memory_mib, seat.cards, seat.milli_each, cpu_milli, seat.slices)
            for one in decided
            if isinstance(one.outcome, Placed)
            for memory_mib, cpu_milli in (_needs(one.job),)
            for seat in one.outcome.seats
        ]
        devices = await nodes.take(tx, self._held.site, takes) if takes else {}
        kept: list[WantedJob] = []
        seats: list[members.Seating] = []
        capped = self._held.engine.power.capped
        leaving = await members.leaving(tx, self._held.site) if capped else {}
        facts: list[Any] = []
        for one in decided:
            job, there, told = self._become(one, devices)
            kept.append(job)
            near = {item.node_id for item in there}
            late = bool(near) and await owners.crowded(tx, self._held.site, near, leaving)
            seats += [(job.job_id, item, (WATTS_DRAWN,) if late else ()) for item in there]
            facts.append(owners.fact_of(one.ask, self._now, one.job, told))
            shown = owners.in_line(tx, job)
            listed = self._members(job, there, (WATTS_DRAWN,) if late else ())
            self.answers[one.number] = show_job(shown, listed, self._now)
        await jobstore.keep_all(tx, kept)
        await members.seat(tx, seats, attempt=1, now=self._now)
        await tx.tell_all(facts)
        intents.know(tx, kept)
        intents.put_intents(tx, *(item.node_id for _, item, _ in seats))

    def _become(self, one: _Decided, devices: Devices) -> tuple[WantedJob, list[Taken], Any]:
        """Return a job as it is once it was decided about, its members, and what is told."""
        job, wish, outcome, held = one.job, one.wish, one.outcome, self._held
        if isinstance(outcome, Placed):
            needs = {seat.node: _needs(job) for seat in outcome.seats}
            there = owners.taken_of(one.ask, outcome, 1, devices, needs)
            job = msgspec.structs.replace(job, state="admitted", place="sits", attempt=1)
            turn = jobs.judge(job, self._members(job, there), self._now)
            job = msgspec.structs.replace(job, reasons=turn.reasons)
            return job, there, begun(one.job, 1, there)
        if isinstance(outcome, Queued):
            why = waits_for(outcome, wish, held.called, held.engine)
            job = msgspec.structs.replace(
                job,
                place="waits",
                reasons=why,
                position=outcome.position,
                expected_start_at=at_of(outcome.start),
            )
            return job, [], queued(job, why)
        why = why_not(outcome.why, outcome.short, wish, held.called, held.engine)
        told = of_job(job, Turn(state="failed", reasons=why))
        return msgspec.structs.replace(job, state="failed", reasons=why, ended_at=self._now), [], told

    def _members(
        self, job: WantedJob, there: Sequence[Taken], why: tuple[Reason, ...] = ()
    ) -> list[Member]:
        return [
            Member(
                workload_id=item.workload_id,
                owner_id=job.job_id,
                kind="job",
                number=item.number,
                attempt=1,
                node_id=item.node_id,
                node=self._held.called(item.node_id),
                node_state="ready",
                node_since=self._now,
                state="assigned",
                since=self._now,
                created_at=self._now,
                devices=item.devices,
                memory_mib=item.memory_mib,
                cpu_milli=item.cpu_milli,
                reasons=why,
            )
            for item in there
        ]


def _needs(job: WantedJob) -> tuple[int, int]:
    """Return the memory and the CPU that each member takes."""
    return job.wished.resources.memory_mib, job.wished.resources.cpu_milli


def _job_of(ask: SubmitJob, project: Project, now: Any) -> WantedJob:
    return WantedJob(
        job_id=derived_id("job", ask.asked_at, ask.ask_id),
        organization=project.organization,
        project=project.project_id,
        project_name=project.name,
        name=ask.name,
        site=ask.site,
        wished=JobWish(
            command=ask.command,
            members=ask.members,
            resources=ask.resources,
            residency=ask.residency,
            near=ask.near,
            isolation=ask.isolation,
            assurances=tuple(ask.assurances),
            preemptible=ask.preemptible,
            min_run_s=ask.min_run_s,
            restart_loses_s=ask.restart_loses_s,
            restarts_max=ask.restarts_max,
            run_max_s=ask.run_max_s,
            slack_s=ask.slack_s,
            elastic=ask.elastic,
        ),
        priority=ask.priority,
        state="queued",
        generation=1,
        created_at=now,
        since=now,
    )
