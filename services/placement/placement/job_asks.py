"""The door for questions and wishes about jobs, one function each."""

from datetime import datetime

from mesh_contracts.ask import Principal, Problem
from mesh_contracts.placement import CancelJob, GetJob, Job, Jobs, ListJobs, SubmitJob
from mesh_contracts.units import derived_id
from meshkit.clock import Clock
from meshkit.store import Transaction

from placement import jobstore, members, memory, reading, work
from placement.domain.admit_work import JOBS_PER_PROJECT_MAX, bad_job
from placement.domain.jobs import JobWish, WantedJob, cancelled, show_job
from placement.naming import moved_on, only_project, project_of, sees_all, taken, the_one
from placement.owners import in_line


async def submit_job(
    ask: SubmitJob, principal: Principal, tx: Transaction, clock: Clock
) -> Job | Problem:
    """Write the job down, place it where it fits, and answer with what it is by then."""
    fault = bad_job(ask, operator=sees_all(principal))
    if fault is not None:
        return fault
    project = await project_of(ask.project, principal, tx)
    if isinstance(project, Problem):
        return project
    await memory.hold(tx, ask.site)
    if await jobstore.named(tx, project.project_id, ask.name):
        return taken("a job", ask.name)
    if await jobstore.count(tx, project.project_id) >= JOBS_PER_PROJECT_MAX:
        return Problem(
            title="Too many jobs",
            status=422,
            code="too_many_jobs",
            detail=f"a project may have {JOBS_PER_PROJECT_MAX} jobs that have not ended: cancel one, or wait",
        )
    now = clock.now()
    job = WantedJob(
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
        ),
        priority=ask.priority,
        state="queued",
        generation=1,
        created_at=now,
        since=now,
    )
    await jobstore.keep(tx, job)
    await work.look_at(tx, ask, now, job.job_id)
    return await _shown(tx, job.job_id, now)


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
