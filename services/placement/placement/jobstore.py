"""The SQL of jobs."""

# ruff: noqa: S608 - statements are put together from constants of this file alone

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mesh_contracts.placement import Reason
from meshkit.errors import StaleSnapshot
from meshkit.store import Row, Transaction

from placement.domain.jobs import OVER, JobWish, WantedJob
from placement.domain.members import Place, Turn
from placement.store import dumps, loads

_JOB = "SELECT j.*, p.name AS project_name FROM job j JOIN project p ON p.project_id = j.project"


async def keep_all(tx: Transaction, jobs: Sequence[WantedJob]) -> None:
    """Write new jobs down, as each is by now."""
    rows = [
        (
            *(job.job_id, job.organization, job.project, job.name, job.site, dumps(job.wished)),
            *(job.priority, job.state, dumps(list(job.reasons)), job.attempt, job.place),
            *(job.position, job.expected_start_at, job.created_at, job.ended_at),
        )
        for job in jobs
    ]
    await tx.change(
        "INSERT INTO job (job_id, organization, project, name, site, wished, priority, state, reasons,"
        " attempt, place, position, expected_start_at, created_at, since, ended_at)"
        " SELECT job_id, organization, project, name, site, wished, priority, state, reasons, attempt,"
        " place, position, starts, at, at, ended FROM unnest($1::text[], $2::text[], $3::text[], $4::text[],"
        " $5::text[], $6::text[], $7::integer[], $8::text[], $9::text[], $10::integer[], $11::text[],"
        " $12::integer[], $13::timestamptz[], $14::timestamptz[], $15::timestamptz[]) AS row (job_id,"
        " organization, project, name, site, wished, priority, state, reasons, attempt, place, position,"
        " starts, at, ended)",
        *(list(column) for column in zip(*rows, strict=True)),
    )


async def taken_names(tx: Transaction, named: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return which of these names (project, name) a job has that has not ended."""
    if not named:
        return set()
    projects, names = (list(column) for column in zip(*named, strict=True))
    rows = await tx.rows(
        # One look at the index a name: without it all jobs are read while the table's size is not known yet.
        "SELECT wanted.* FROM unnest($1::text[], $2::text[]) AS wanted (project, name), LATERAL (SELECT FROM job j"
        "  WHERE j.project = wanted.project AND j.name = wanted.name AND j.ended_at IS NULL LIMIT 1) AS taken",
        *(projects, names),
    )
    return {(row["project"], row["name"]) for row in rows}


async def counts(tx: Transaction, projects: Sequence[str]) -> Counter[str]:
    """Return how many jobs of each project have not ended."""
    rows = await tx.rows(
        "SELECT project, count(*) AS many FROM job WHERE ended_at IS NULL AND project = ANY($1::text[])"
        " GROUP BY project",
        list(projects),
    )
    return Counter({row["project"]: row["many"] for row in rows})


async def load(tx: Transaction, job_id: str) -> WantedJob | None:
    """Return one job by id, or nothing."""
    row = await tx.row(f"{_JOB} WHERE j.job_id = $1", job_id)
    return None if row is None else _job(row)


async def load_all(tx: Transaction, ids: Sequence[str]) -> dict[str, WantedJob]:
    """Return those jobs that there are, by id."""
    rows = await tx.rows(f"{_JOB} WHERE j.job_id = ANY($1::text[])", list(ids))
    return {row["job_id"]: _job(row) for row in rows}


async def find(tx: Transaction, project: str | None, text: str) -> list[WantedJob]:
    """Return the job of that id, or the newest of that name in ``project`` (in each, where it is ``None``)."""
    return (await find_all(tx, [(project, text)]))[0]


async def find_all(tx: Transaction, wanted: Sequence[tuple[str | None, str]]) -> list[list[WantedJob]]:
    """Return for each project and text what ``find`` does: one job, or two where there are several."""
    found: list[list[WantedJob]] = [[] for _ in wanted]
    projects, texts = (list(column) for column in zip(*wanted, strict=True))
    rows = await tx.rows(
        "SELECT found.*, wanted.nth FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (scope, text, nth),"
        f" LATERAL (SELECT DISTINCT ON (f.project) f.* FROM ({_JOB}) AS f"
        "  WHERE (f.job_id = wanted.text OR f.name = wanted.text)"
        "  AND (wanted.scope IS NULL OR f.project = wanted.scope) ORDER BY f.project, f.job_id DESC LIMIT 2) AS found",
        *(projects, texts),
    )
    for row in rows:
        found[row.pop("nth") - 1].append(_job(row))
    return found


async def listed(
    tx: Transaction, site: str, project: str | None, after: str, limit: int, *, ended: bool
) -> list[WantedJob]:
    """Return at most ``limit`` jobs by name and id, after ``name id``; those that have ended where asked for."""
    rows = await tx.rows(
        f"{_JOB} WHERE j.site = $1 AND ($2::text IS NULL OR j.project = $2) AND ($3 OR j.ended_at IS NULL)"
        " AND j.name || ' ' || j.job_id > $4 ORDER BY j.name || ' ' || j.job_id LIMIT $5",
        *(site, project, ended, after, limit),
    )
    return [_job(row) for row in rows]


async def waiting(tx: Transaction, site: str) -> list[WantedJob]:
    """Return the jobs that the engine has in its queue, what is worth most first, then the oldest."""
    rows = await tx.rows(
        f"{_JOB} WHERE j.site = $1 AND j.place = 'waits' ORDER BY j.priority DESC, j.created_at, j.job_id",
        site,
    )
    return [_job(row) for row in rows]


async def seated(tx: Transaction, site: str) -> list[WantedJob]:
    """Return the jobs that have their seats, in the order they were made."""
    rows = await tx.rows(
        f"{_JOB} WHERE j.site = $1 AND j.place = 'sits' ORDER BY j.created_at, j.job_id", site
    )
    return [_job(row) for row in rows]


async def due(tx: Transaction, site: str, now: datetime) -> list[str]:
    """Return the jobs that have run as long as they may."""
    rows = await tx.rows(
        "SELECT job_id FROM job WHERE site = $1 AND due_at <= $2 AND state = 'running'", site, now
    )
    return [row["job_id"] for row in rows]


async def turn(
    tx: Transaction, job: WantedJob, to: Turn, now: datetime, due_at: datetime | None
) -> None:
    """Make a job what it turns into; ``due_at`` is when it is to stop once it runs."""
    over, starts = to.state in OVER, to.state == "running" and job.state != "running"
    await tx.change(
        "UPDATE job SET state = $2, reasons = $3, failures = $4,"
        " since = CASE WHEN state = $2 THEN since ELSE $5 END,"
        " started_at = CASE WHEN $6 THEN $5 ELSE started_at END,"
        " due_at = CASE WHEN $6 THEN $7 WHEN $2 = 'running' THEN due_at END,"
        " ended_at = CASE WHEN $8 THEN coalesce(ended_at, $5) END,"
        " position = CASE WHEN $2 = 'queued' THEN position END,"
        " expected_start_at = CASE WHEN $2 = 'queued' THEN expected_start_at END WHERE job_id = $1",
        *(job.job_id, to.state, dumps(list(to.reasons)), to.failures, now, starts, due_at, over),
    )


async def admit(tx: Transaction, job: WantedJob, now: datetime) -> None:
    """Note that a job has its seats: one attempt more begins."""
    await tx.change(
        "UPDATE job SET state = 'admitted', since = $2, reasons = '[]', place = 'sits',"
        " attempt = attempt + 1, position = NULL, expected_start_at = NULL WHERE job_id = $1",
        *(job.job_id, now),
    )


async def set_place(tx: Transaction, job_id: str, place: Place) -> None:
    """Note what the engine has of a job."""
    await tx.change("UPDATE job SET place = $2 WHERE job_id = $1", job_id, place)


async def wait(
    tx: Transaction,
    job_id: str,
    reasons: Sequence[Reason],
    position: int | None,
    start: datetime | None,
) -> None:
    """Note that a job waits: why, behind how many, and until when at most where that is known."""
    await tx.change(
        "UPDATE job SET place = 'waits', reasons = CASE WHEN state = 'queued' THEN $2 ELSE reasons END,"
        " position = CASE WHEN state = 'queued' THEN $3::integer END,"
        " expected_start_at = CASE WHEN state = 'queued' THEN $4::timestamptz END WHERE job_id = $1",
        *(job_id, dumps(list(reasons)), position, start),
    )


async def wished(tx: Transaction, jobs: Sequence[WantedJob]) -> None:
    """Count for each job one change that somebody asked for. Raises StaleSnapshot where one moved since it was read."""
    changed = await tx.change(
        "UPDATE job SET generation = job.generation + 1 FROM unnest($1::text[], $2::bigint[]) AS read (id, generation)"
        " WHERE job_id = read.id AND job.generation = read.generation",
        *([job.job_id for job in jobs], [job.generation for job in jobs]),
    )
    if changed < len(jobs):
        raise StaleSnapshot("a job was changed since it was read")


async def forget(tx: Transaction, before: datetime, batch: int) -> int:
    """Forget at most ``batch`` jobs that ended before, with their members; return how many."""
    return await tx.change(
        "DELETE FROM job WHERE job_id IN (SELECT job_id FROM job WHERE ended_at < $1 AND place = 'none'"
        " ORDER BY ended_at LIMIT $2)",
        *(before, batch),
    )


def _job(row: Row) -> WantedJob:
    fields: dict[str, Any] = dict(row)
    fields["wished"] = loads(fields["wished"], JobWish)
    fields["reasons"] = tuple(loads(fields["reasons"], list[Reason]))
    return WantedJob(**fields)
