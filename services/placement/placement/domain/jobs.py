"""What a job becomes: from what its members are, and what time it is. Start with ``judge``."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256

import msgspec
from mesh_contracts.placement import (
    Command,
    Isolation,
    Job,
    JobState,
    Near,
    Reason,
    Residency,
    Resources,
)
from mesh_contracts.units import is_id

from placement.domain import limits
from placement.domain.limits import stuck
from placement.domain.members import (
    BACKING_OFF,
    Member,
    Owned,
    Turn,
    is_lost,
    lost,
    must_leave,
    show_members,
)

OVER: tuple[str, ...] = ("succeeded", "failed", "cancelled")
"""States of a job that has ended."""
BLAMELESS = ("node_lost", "node_unhealthy", "node_draining", "device_gone", "member_interrupted")
"""Why a member ended through no fault of its job."""
RENDEZVOUS_FROM, RENDEZVOUS_PORTS = 20_000, 10_000
"""Ports at which members meet: below those that a kernel gives away by itself."""
Gone = tuple[Member, Reason]
"""A member that goes no further where it is, and why."""


class JobWish(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was asked for, and never changes."""

    command: Command
    members: int
    resources: Resources
    residency: Residency
    near: Near = Near()
    isolation: Isolation = "none"
    assurances: tuple[str, ...] = ()
    preemptible: bool = True
    min_run_s: int = 0
    restart_loses_s: int = 3_600
    restarts_max: int = 3
    run_max_s: int = 0
    slack_s: int = 0
    elastic: bool = False


class WantedJob(Owned, frozen=True, kw_only=True):
    """One job: what was asked for, and what became of it so far."""

    job_id: str
    wished: JobWish
    state: JobState
    attempt: int = 0
    failures: int = 0
    started_at: datetime | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended; members may still be stopping."""
        return self.state in OVER


def judge(job: WantedJob, members: Sequence[Member], now: datetime) -> Turn:
    """Return what the job is now, given its members of all attempts: the same again changes nothing.

    A gang goes on whole or not at all: where one member fails, or has to leave its node, all stop and
    the job is queued again, from its last checkpoint. It has failed for good once its own failures
    are more than ``restarts_max``; what befell a node is not the job's fault. Of an elastic job those that
    are lost are seated anew while the others go on, as long as there are any.
    """
    fails = tuple((one, lost(one)) for one in members if is_lost(one, now))
    given_up = {one.workload_id for one, _ in fails}
    living = [one for one in members if one.living and one.workload_id not in given_up]
    mine = [one for one in members if one.attempt == job.attempt and one.replaced_by is None]
    turn = Turn(state=job.state, reasons=job.reasons, fails=fails, failures=job.failures)
    if job.state in {"admitted", "running"}:
        turn = _at_work(job, mine, turn, now)
    if turn.state in {"admitted", "running"}:
        return turn
    stops = tuple(one for one in living if one.going)
    turn = msgspec.structs.replace(turn, stops=stops)
    if living:
        return turn
    return _at_rest(job, turn)


def cancelled(job: WantedJob) -> Turn:
    """Return what a job becomes that nobody wants any more; one that has ended stays as it is."""
    if job.over:
        return Turn(state=job.state, reasons=job.reasons, failures=job.failures)
    return Turn(state="cancelled", failures=job.failures, tell="cancel" if job.place == "waits" else "")


def preempted(job: WantedJob, by: str) -> Turn:
    """Return what a job becomes whose place another got, or for which a power cap leaves no watts."""
    if is_id(by):
        reason = Reason(
            code="preempted",
            detail=f"{by} got its place: by a quota that guarantees it, or by priority",
            unblock="give it a higher priority, or a quota that guarantees its place",
        )
    else:
        reason = shed_by(by)
    return Turn(state="preempted", reasons=(reason,), failures=job.failures)


def shed_by(cap: str) -> Reason:
    """Return why what runs is stopped for which a power cap leaves no watts."""
    return Reason(
        code="power_shed",
        detail=f"{cap} leaves no watts for it",
        unblock="have an operator raise the cap, or wait until other work under it ends",
    )


def stranded(job: WantedJob, lost: Sequence[Member], why: Sequence[Reason]) -> Turn:
    """Return what an elastic job becomes of which lost members have no other seats, for what ``why`` says."""
    count, members = len(lost), job.wished.members
    reason = Reason(
        code="members_not_replaced",
        detail=f"no other place for {count} of {members} members: all stop, and wait for room together",
        count=count,
    )
    reasons = (reason, *(first for one in lost for first in one.reasons[:1]))
    return Turn(state="preempted", reasons=(*reasons[:2], *why), failures=job.failures)


def _at_work(job: WantedJob, mine: Sequence[Member], turn: Turn, now: datetime) -> Turn:
    assert mine, "a job that has its place has members"
    gone = _gone(job, mine, turn)
    left = {one.workload_id: must_leave(one, now, preemptible=job.wished.preemptible) for one in mine}
    leave = [(one, why) for one in mine if (why := left[one.workload_id]) is not None]
    own = [reason for _, reason in gone if reason.code not in BLAMELESS]
    away = {one.workload_id for one, _ in (*gone, *leave)}
    stay = [one for one in mine if one.workload_id not in away and one.state != "stopping"]
    if away and stay and job.wished.elastic:
        if own and job.failures + len(own) > job.wished.restarts_max:
            return _failed(job, turn, own[0], len(own))
        turn = _mended(turn, gone, leave, len(own))
    elif away:
        moved = msgspec.structs.replace(turn, state="preempted", reasons=((*gone, *leave)[0][1],))
        return _failed(job, turn, own[0]) if own else moved
    elif all(one.state == "stopped" for one in mine):
        return msgspec.structs.replace(turn, state="succeeded", reasons=())
    if job.due_at is not None and now >= job.due_at:
        return msgspec.structs.replace(turn, state="failed", reasons=(time_over(job),), lost=())
    runs = [one for one in mine if one.workload_id not in away and one.state in {"ready", "stopped"}]
    if len(runs) == len(mine):
        return msgspec.structs.replace(turn, state="running", reasons=())
    waits = len(mine) - len(runs)
    reason = Reason(
        code="members_starting", detail=f"{waits} of {len(mine)} members do not run yet", count=waits
    )
    paused = [why for one in mine for why in one.reasons if why.code == BACKING_OFF and one.held_back]
    # One that ran and begins anew on its node has not ended: the job runs on meanwhile.
    return msgspec.structs.replace(turn, reasons=(reason, *paused[:1]))


def _gone(job: WantedJob, mine: Sequence[Member], turn: Turn) -> list[Gone]:
    """Return the members that ended before their time, or are given up, each with why."""
    given_up = {one.workload_id: reason for one, reason in turn.fails}
    gone = [(one, given_up[one.workload_id]) for one in mine if one.workload_id in given_up]
    gone += [(one, reason) for one in mine if one.state == "failed" for reason in one.reasons[:1]]
    if job.wished.elastic:
        # It was to leave its node, and has: who ended by itself has nothing to explain.
        gone += [(one, reason) for one in mine if one.state == "stopped" for reason in one.reasons[:1]]
    return gone


def _mended(turn: Turn, gone: Sequence[Gone], leave: Sequence[Gone], failures: int) -> Turn:
    """Return the turn of an elastic job that lost members: those that have ended are seated anew.

    Who has to leave its node ends first: no member is there twice, not even for a moment.
    """
    unbegun = tuple((one, why) for one, why in leave if one.held_back)
    return msgspec.structs.replace(
        turn,
        fails=(*turn.fails, *unbegun),
        stops=tuple(
            msgspec.structs.replace(one, reasons=(why,)) for one, why in leave if not one.held_back
        ),
        lost=tuple(one for one, _ in (*gone, *unbegun)),
        failures=turn.failures + failures,
    )


def _failed(job: WantedJob, turn: Turn, reason: Reason, count: int = 1) -> Turn:
    failures = job.failures + count
    if failures <= job.wished.restarts_max:
        return msgspec.structs.replace(turn, state="preempted", reasons=(reason,), failures=failures)
    reasons = (reason, _too_often(failures))
    return msgspec.structs.replace(turn, state="failed", reasons=reasons, failures=failures)


def _at_rest(job: WantedJob, turn: Turn) -> Turn:
    """Return what follows once none of its members is there any more."""
    if job.place == "sits":
        state = "queued" if turn.state == "preempted" else turn.state
        return msgspec.structs.replace(turn, state=state, tell="release")
    if turn.state == "preempted":
        turn = msgspec.structs.replace(turn, state="queued")
    if turn.state == "queued" and job.place == "none":
        return msgspec.structs.replace(turn, tell="ask")
    if turn.state in OVER and job.place == "waits":
        return msgspec.structs.replace(turn, tell="cancel")
    return turn


def rendezvous(job_id: str, attempt: int, address: str) -> str:
    """Return where the members of an attempt meet: on member 0's server, at a port drawn from what they are.

    A port that something else has is left with the attempt: the next one draws another.
    """
    drawn = int.from_bytes(sha256(f"{job_id}.{attempt}".encode()).digest()[:4])
    return f"{address}:{RENDEZVOUS_FROM + drawn % RENDEZVOUS_PORTS}"


def time_over(job: WantedJob) -> Reason:
    """Return why a job was ended that ran as long as it may."""
    return Reason(
        code="time_over",
        detail=f"it ran for {job.wished.run_max_s} s, as long as it may",
        unblock="submit it with a longer run_max_s; what it wrote as checkpoints is kept",
    )


def due_after(job: WantedJob, now: datetime) -> datetime | None:
    """Return when a job that begins to run now is to stop; nothing where it may go on."""
    return now + timedelta(seconds=job.wished.run_max_s) if job.wished.run_max_s else None


def show_job(job: WantedJob, members: Sequence[Member], now: datetime) -> Job:
    """Return a job as its owner sees it; ``members`` of its last attempt, and what still stops."""
    wished = job.wished
    late = stuck(limits.JOB, job.state, job.since, now)
    shown, left = show_members(members, now)
    return Job(
        id=job.job_id,
        name=job.name,
        project_id=job.project,
        organization_id=job.organization,
        project=job.project_name,
        site=job.site,
        command=wished.command,
        members=wished.members,
        resources=wished.resources,
        residency=wished.residency,
        near=wished.near,
        isolation=wished.isolation,
        assurances=list(wished.assurances),
        priority=job.priority,
        preemptible=wished.preemptible,
        min_run_s=wished.min_run_s,
        restart_loses_s=wished.restart_loses_s,
        restarts_max=wished.restarts_max,
        run_max_s=wished.run_max_s,
        slack_s=wished.slack_s,
        elastic=wished.elastic,
        state=job.state,
        generation=job.generation,
        created_at=job.created_at,
        since=job.since,
        reasons=[*job.reasons, *late],
        position=job.position,
        expected_start_at=job.expected_start_at,
        attempt=job.attempt,
        failures=job.failures,
        started_at=job.started_at,
        ended_at=job.ended_at,
        workloads=shown,
        workloads_left=left,
    )


def _too_often(failures: int) -> Reason:
    return Reason(
        code="restarts_used_up",
        detail=f"it failed {failures} times, and is not tried again",
        unblock="look at its log; submit it again once it is mended",
        count=failures,
    )
