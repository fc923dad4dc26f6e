"""The door for questions and wishes about jobs, one function each."""

from datetime import datetime

from mesh_contracts.ask import Principal, Problem
from mesh_contracts.placement import CancelJob, GetJob, Job, Jobs, ListJobs
from meshkit.clock import Clock
from meshkit.store import Transaction

from placement import jobstore, members, memory, reading, work
from placement.domain.jobs import cancelled, show_job
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
    return job if isinstance(job, Problem) else await _shown(tx, job.job_id, clock.now())


async def cancel_job(
    ask: CancelJob, principal: Principal, tx: Transaction, clock: Clock
) -> Job | Problem:
    """End a job; what it has on nodes is stopped. Again, and of one that has ended, it is answered the same."""
    await memory.hold(tx, ask.site)
    job = the_one("job", ask.job, await jobstore.find(tx, only_project(principal), ask.job))
    if isinstance(job, Problem):
        return job
    now = clock.now()
    if not job.over:
        fault = moved_on("job", job.generation, ask.generation)
        if fault is not None:
            return fault
        await jobstore.wished(tx, job)
        await work.turn(tx, ask, now, job, cancelled(job))
    return await _shown(tx, job.job_id, now)


async def _shown(tx: Transaction, job_id: str, now: datetime) -> Job:
    job = await jobstore.load(tx, job_id)
    assert job is not None, "it was loaded in this transaction"
    return show_job(in_line(tx, job), await members.of_owner(tx, job_id, job.attempt), now)
