"""Which fact a change of a job or a lease is, and what it says."""

from collections.abc import Sequence
from typing import Any

from mesh_contracts.fact import Fact
from mesh_contracts.placement import (
    JobAdmitted,
    JobCancelled,
    JobFailed,
    JobPreempted,
    JobQueued,
    JobReseated,
    JobStarted,
    JobSucceeded,
    LeaseActivated,
    LeaseEnded,
    LeaseFailed,
    LeaseGranted,
    LeaseRefused,
    LeaseReleased,
    Reason,
    Reseat,
)

from placement.domain.engine.fair import amount
from placement.domain.fleet import MILLI_PER_GPU
from placement.domain.jobs import WantedJob
from placement.domain.leases import WantedLease
from placement.domain.members import Member, Taken, Turn
from placement.domain.wishes import size_of

Told = tuple[type[Fact], dict[str, Any]]


def of_job(job: WantedJob, to: Turn) -> Told | None:
    """Return what is told of a job's turn; nothing where its state stays, or its next is told in a moment."""
    if to.state == job.state or (to.state == "queued" and to.tell == "release"):
        return None
    known, why = {"job_id": job.job_id, "name": job.name}, {"reasons": list(to.reasons)}
    kinds: dict[str, Told] = {
        "running": (JobStarted, {"attempt": job.attempt}),
        "queued": (JobQueued, why),
        "preempted": (JobPreempted, why),
        "succeeded": (JobSucceeded, {}),
        "failed": (JobFailed, why),
        "cancelled": (JobCancelled, {}),
    }
    kind, more = kinds[to.state]
    return kind, known | more


def of_lease(lease: WantedLease, to: Turn) -> Told | None:
    """Return what is told of a lease's turn; nothing where its state stays, or is on the way to the next."""
    known, why = {"lease_id": lease.lease_id, "name": lease.name}, {"reasons": list(to.reasons)}
    kinds: dict[str, Told] = {
        "active": (LeaseActivated, {}),
        "releasing": (LeaseReleased, why),
        "ended": (LeaseEnded, {}),
        "refused": (LeaseRefused, why),
        "failed": (LeaseFailed, why),
    }
    if to.state == lease.state or to.state not in kinds:
        return None
    kind, more = kinds[to.state]
    return kind, known | more


def begun(owner: WantedJob | WantedLease, attempt: int, seats: Sequence[Taken]) -> Told:
    """Return what is told of a job or a lease that has its seats."""
    nodes = sorted({one.node_id for one in seats})
    milli = sum(held.milli for one in seats for held in one.devices)
    if isinstance(owner, WantedJob):
        if owner.wished.resources.mig:
            milli = amount(size_of(owner.wished.resources), len(seats)).gpu
        more = {"node_ids": nodes, "gpu_milli": milli, "attempt": attempt}
        return JobAdmitted, {"job_id": owner.job_id, "name": owner.name, **more}
    gpus = milli // MILLI_PER_GPU
    known = {"lease_id": owner.lease_id, "name": owner.name}
    return LeaseGranted, {**known, "node_ids": nodes, "gpus": gpus}


def queued(job: WantedJob, why: Sequence[Reason]) -> Told:
    """Return what is told of a job that was asked for and has to wait."""
    return JobQueued, {"job_id": job.job_id, "name": job.name, "reasons": list(why)}


def reseat_of(before: Member, after: Taken) -> Reseat:
    """Return where a member was, where it goes on, and why it had to."""
    return Reseat(
        member=before.number,
        workload_id=before.workload_id,
        successor_id=after.workload_id,
        node_id=before.node_id,
        to_node_id=after.node_id,
        reasons=list(before.reasons),
    )


def reseated(job: WantedJob, moved: Sequence[Reseat]) -> Told:
    """Return what is told of a job of which lost members go on elsewhere."""
    known = {"job_id": job.job_id, "name": job.name}
    return JobReseated, {**known, "attempt": job.attempt, "reseats": list(moved)}
