"""Members of jobs and servers of leases: what each is, and when its node takes its place from it."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Literal

import msgspec
from mesh_contracts.node import WorkloadFailed, WorkloadReady, WorkloadStarted, WorkloadStopped
from mesh_contracts.placement import NodeState, Reason, Workload, WorkloadState

from placement.domain.fleet import ENDED, LEAVING, MAINTENANCE, WATTS_DRAWN, Held
from placement.domain.limits import MEMBER, stuck

Place = Literal["none", "booked", "waits", "sits"]
"""What the engine has of a job or a lease: nothing, a place in its queue, all its seats."""
Step = Literal["hold", "erase", "attest", "done"]
"""How far a server that was a tenant's has come on its way to the next."""

WorkloadFact = WorkloadStarted | WorkloadReady | WorkloadStopped | WorkloadFailed

LOST_FOR_S = 20.0
"""How long a node is lost before its jobs begin elsewhere: its agent stops them by then, silent 30 s in all."""

WAITING: dict[str, Reason] = {
    "assigned": Reason(code="waiting_for_agent", detail="its node's agent has not begun yet"),
    "starting": Reason(code="member_starting", detail="its node has begun, and is not done yet"),
    "stopping": Reason(code="member_stopping", detail="it is being stopped"),
}
"""What a member waits for, where nothing more is known."""

SHOWN_BYTES_MAX = 600_000
"""Of members in one answer: it goes over the bus, where a message has 1 MB."""

LAST_ENDS = Reason(
    code="last_attempt_ending", detail="its job's last attempt is still being stopped on another node"
)
"""Why a member is not begun yet, though it has its seat, beside ``WATTS_DRAWN``: a job does not run twice."""

BACKING_OFF = "backing_off"
"""Why a member is not begun yet whose job failed by itself a moment ago; its ``count`` are the seconds from its seat on."""


class Owned(msgspec.Struct, frozen=True, kw_only=True):
    """What jobs and leases have in common: whose it is, what it is worth, how it stands in line, until when.

    ``place`` is what the engine has of it; ``position`` and ``expected_start_at`` are told of what waits.
    """

    organization: str
    project: str
    project_name: str
    name: str
    site: str
    priority: int
    generation: int
    created_at: datetime
    since: datetime
    place: Place = "none"
    position: int | None = None
    expected_start_at: datetime | None = None
    due_at: datetime | None = None
    ended_at: datetime | None = None
    reasons: tuple[Reason, ...] = ()


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One member of a job, or one server of a lease: where, in which state, what it takes.

    ``holds`` tells whether what it takes is taken: no longer once it has ended (a lease's: once its
    server is clean), nor where another has been given it already. ``replaced_by`` is the workload that
    goes on in its stead, in the same attempt.
    """

    workload_id: str
    owner_id: str
    kind: Literal["job", "lease"]
    number: int
    attempt: int
    node_id: str
    node: str
    node_state: NodeState
    node_since: datetime
    state: WorkloadState
    since: datetime
    created_at: datetime
    devices: tuple[Held, ...]
    memory_mib: int
    cpu_milli: int
    step: Step = "hold"
    holds: bool = True
    started_at: datetime | None = None
    exit_code: int | None = None
    replaced_by: str | None = None
    drain_until: datetime | None = None
    node_reasons: tuple[Reason, ...] = ()
    reasons: tuple[Reason, ...] = ()

    @property
    def living(self) -> bool:
        """Whether its node still has it, or is to begin it."""
        return self.state not in ENDED

    @property
    def held_back(self) -> bool:
        """Whether its node is not told of it yet, as something has to end first, or time to pass."""
        waits = LAST_ENDS in self.reasons or WATTS_DRAWN in self.reasons
        return self.state == "assigned" and (waits or self.begins_at is not None)

    @property
    def begins_at(self) -> datetime | None:
        """When it begins, where it waits for nothing but that."""
        paused = (one.count or 0 for one in self.reasons if one.code == BACKING_OFF)
        return next((self.created_at + timedelta(seconds=count) for count in paused), None)

    @property
    def going(self) -> bool:
        """Whether it is meant to go on."""
        return self.living and self.state != "stopping"


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """Where a member is to sit, and what it takes there."""

    workload_id: str
    number: int
    node_id: str
    devices: tuple[Held, ...]
    memory_mib: int
    cpu_milli: int


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What a job or a lease is from now on, and what is to be done about its members.

    ``fails`` are members that are given up, each with why; ``stops`` are told to end; ``steps`` go on to the
    next; ``lost`` have ended, and are seated anew while the others go on. ``tell`` is what the engine should hear next: that it is asked for, holds nothing any more,
    is not wanted any more.
    """

    state: str
    reasons: tuple[Reason, ...] = ()
    fails: tuple[tuple[Member, Reason], ...] = ()
    stops: tuple[Member, ...] = ()
    steps: tuple[tuple[Member, Step], ...] = ()
    lost: tuple[Member, ...] = ()
    tell: Literal["", "reserve", "ask", "release", "cancel"] = ""
    failures: int = 0
    spoilt: bool = False


class Came(msgspec.Struct, frozen=True, kw_only=True):
    """What a member has come to. ``begun``: its node has had it, if it has not before."""

    state: WorkloadState
    reasons: tuple[Reason, ...] = ()
    exit_code: int | None = None
    begun: bool = False


def after(member: Member, fact: WorkloadFact) -> Came | None:
    """Return what a member has come to by what its node tells; nothing where that changes nothing.

    A job's member does its work once its command runs. A leased server that failed, and is there
    again, is the tenant's as before. One that is begun while it is being taken back has to be erased.
    """
    if isinstance(fact, WorkloadStarted | WorkloadReady):
        return _begun(member, ready=isinstance(fact, WorkloadReady) or member.kind == "job")
    if not member.living:
        return None
    if isinstance(fact, WorkloadStopped):
        if member.state == "stopping" or (member.kind == "job" and fact.exit_code == 0):
            return Came(state="stopped", reasons=member.reasons, exit_code=fact.exit_code)
        reason = Reason(code="stopped_unasked", detail=f"{member.node} stopped it, unasked")
        return Came(state="failed", reasons=(reason,), exit_code=fact.exit_code)
    if member.state == "stopping":
        return Came(state="stopped", reasons=member.reasons, exit_code=fact.exit_code)
    code = "" if fact.exit_code is None else f" (exit code {fact.exit_code})"
    why = "member_interrupted" if fact.interrupted else "member_failed"
    reason = Reason(code=why, detail=f"member {member.number}: {fact.reason}{code}")
    return Came(state="failed", reasons=(reason,), exit_code=fact.exit_code)


def _begun(member: Member, *, ready: bool) -> Came | None:
    if member.kind == "lease" and member.state == "stopping":
        late = member.started_at is None
        return Came(state="stopping", reasons=member.reasons, begun=True) if late else None
    back = member.kind == "lease" and member.step == "hold" and not member.living
    state: WorkloadState = "ready" if ready else "starting"
    goes = (member.going or back) and member.state != state
    return Came(state=state, begun=True) if goes else None


def may_begin(members: Sequence[Member], turn: Turn, now: datetime) -> list[Member]:
    """Return the members that were held back long enough, and that no earlier attempt is in the way of."""
    over = {one.workload_id for one in turn.stops} | {one.workload_id for one, _ in turn.fails}
    late = [one for one in members if one.going and one.held_back and one.workload_id not in over]
    given_up = {one.workload_id for one, _ in turn.fails}
    earlier = [one for one in members if late and one.living and one.attempt < late[0].attempt]
    if not all(one.workload_id in given_up for one in earlier):
        return []
    return [one for one in late if one.begins_at is None or now >= one.begins_at]


def is_lost(member: Member, now: datetime) -> bool:
    """Tell whether a member is given up because nobody has heard its node for so long."""
    lost = member.node_state == "lost" and member.living
    return lost and now - member.node_since >= timedelta(seconds=LOST_FOR_S)


def lost(member: Member) -> Reason:
    """Return why a member on a node that is lost is given up."""
    return Reason(code="node_lost", detail=f"{member.node} fell silent")


def must_leave(member: Member, now: datetime, *, preemptible: bool) -> Reason | None:
    """Return why a job's member cannot stay on its node; nothing where it can.

    A node whose arithmetic is wrong makes wrong results at once. One that is being emptied lets those
    that cannot be preempted go on until its deadline; one that somebody only cordoned lets them end.
    """
    if not member.going or member.node_state not in LEAVING:
        return None
    sick = next((one for one in member.node_reasons if one.code.startswith("health_")), None)
    if sick is not None:
        detail = f"{member.node} did not pass its health check: {sick.detail}"
        return Reason(code="node_unhealthy", detail=detail)
    if member.node_state == "cordoned":
        return None
    if preemptible or member.drain_until is None or now >= member.drain_until:
        worked_on = [one.detail for one in member.node_reasons if one.code == MAINTENANCE]
        detail = ": ".join((f"{member.node} is being emptied", *worked_on))
        return Reason(code="node_draining", detail=detail)
    return None


def show_members(members: Sequence[Member], now: datetime) -> tuple[list[Workload], int]:
    """Return members as their owner sees them, and how many more there are than one answer takes.

    In their order, but where that is not all: then those first of whom there is something to say.
    """
    shown = [_show(one, now) for one in members]
    if sum(map(_bytes_of, shown)) <= SHOWN_BYTES_MAX:
        return shown, 0
    shown.sort(key=lambda one: (one.state != "failed", not one.reasons))
    sizes = accumulate(map(_bytes_of, shown))
    fit = sum(size <= SHOWN_BYTES_MAX for size in sizes)
    return shown[:fit], len(shown) - fit


def _bytes_of(workload: Workload) -> int:
    return len(msgspec.json.encode(workload))


def _show(member: Member, now: datetime) -> Workload:
    why = member.reasons or ((WAITING[member.state],) if member.state in WAITING else ())
    if member.replaced_by is not None:
        detail = f"member {member.number} goes on as {member.replaced_by}"
        why = (*why, Reason(code="member_replaced", detail=detail))
    late = stuck(MEMBER, member.state, member.since, now)
    return Workload(
        id=member.workload_id,
        node=member.node,
        node_id=member.node_id,
        state=member.state,
        since=member.since,
        reasons=[*why, *late],
    )
