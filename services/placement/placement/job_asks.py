"""The door for questions and wishes about jobs, one function each."""

from collections import deque
from collections.abc import Collection, Sequence
from datetime import datetime

from mesh_contracts.ask import Principal, Problem
from mesh_contracts.placement import CancelJob, GetJob, Job, Jobs, ListJobs
from meshkit.clock import Clock
from meshkit.store import Transaction
from meshkit.together import Asked

from placement import jobstore, members, memory, reading, work
from placement.ahead import Ahead
from placement.domain.jobs import WantedJob, cancelled, show_job
from placement.naming import moved_on, only_project, the_one
from placement.owners import in_line


async def list_jobs(ask: ListJobs, principal: Principal, tx: Transaction, clock: Clock) -> Jobs:
    """Return the jobs the principal sees, by name, without their workloads."""
    limit = max(1, min(ask.page.limit, reading.PAGE_MAX))
    found = await jobstore.listed(
        tx, ask.site, only_project(principal), ask.page.cursor or "", limit + 1, ended=ask.ended
    )
    shown, now = found[:limit], clock.now()
    return Jobs(
        items=[show_job(in_line(tx, job), (), now) for job in shown],
        next=f"{shown[-1].name} {shown[-1].job_id}" if len(found) > limit else None,
    )


async def get_job(ask: GetJob, principal: Principal, tx: Transaction, clock: Clock) -> Job | Problem:
    """Return one job with its members."""
    job = the_one("job", ask.job, await jobstore.find(tx, only_project(principal), ask.job))
    if isinstance(job, Problem):
        return job
    return show_job(in_line(tx, job), await members.of_owner(tx, job.job_id, job.attempt), clock.now())


async def cancel_jobs(asked: Sequence[Asked], tx: Transaction, clock: Clock) -> list[Job | Problem]:
    """End jobs, in the order in which that was asked for; what they have on nodes is stopped.

    Again, and of one that has ended, it is answered the same.
    """
    await memory.hold(tx, asked[0].ask.site)
    texts = [(only_project(principal), ask.job) for ask, principal in asked]
    found = zip(texts, await jobstore.find_all(tx, texts), strict=True)
    jobs = [the_one("job", text, there) for (_, text), there in found]
    ends = _Ends(tx, clock.now(), [one.job_id for one in jobs if isinstance(one, WantedJob)])
    answers: list[str | Problem] = [
        one if isinstance(one, Problem) else await ends.cancel(ask, one.job_id)
        for (ask, _), one in zip(asked, jobs, strict=True)
    ]
    shown = await ends.shown({one for one in answers if isinstance(one, str)})
    return [shown[one] if isinstance(one, str) else one for one in answers]


class _Ends:
    """Jobs that nobody wants any more: all are ended, and then looked at."""

    def __init__(self, tx: Transaction, now: datetime, ids: Sequence[str]) -> None:
        self._tx, self._now = tx, now
        self._coming = deque(ids)
        self._ahead = Ahead(tx, self._coming)
        self._wished: list[WantedJob] = []
        self._works: dict[str, work.Work] = {}

    async def cancel(self, ask: CancelJob, job_id: str) -> str | Problem:
        """End the job that comes next; return its id, or what is wrong: then nothing has changed."""
        self._coming.popleft()
        job, _ = await self._ahead.take(job_id)
        assert job is not None, "it was found in this transaction"
        if job.over:
            return job_id
        fault = moved_on("job", job.generation, ask.generation)
        if fault is not None:
            return fault
        self._wished.append(job)
        self._works[job_id] = one = work.Work(self._tx, ask, self._now, self._ahead)
        await one.turn_job(job, cancelled(job))
        # Another of these may have its seats by now, and is read again then.
        await one.heed_all()
        return job_id

    async def shown(self, ids: Collection[str]) -> dict[str, Job]:
        """See to all that follows; return some of the jobs as they are by then, by id."""
        if self._wished:
            await jobstore.wished(self._tx, self._wished)
        self._coming.extend(self._works)
        for job_id, one in self._works.items():
            self._coming.popleft()
            await one.run([job_id])
        jobs = await jobstore.load_all(self._tx, sorted(ids))
        there = await members.of_jobs(self._tx, jobs.values())
        return {
            one: show_job(in_line(self._tx, job), there[one], self._now) for one, job in jobs.items()
        }
