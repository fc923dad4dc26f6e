"""What a lease becomes: from what its servers are, and what time it is. Start with ``judge``."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec
from mesh_contracts.node import ErasureRecorded
from mesh_contracts.placement import Lease, LeaseState, Near, Reason, Residency, Workload

from placement.domain import limits
from placement.domain.health import DEVICE_GONE
from placement.domain.limits import stuck
from placement.domain.members import Member, Owned, Step, Turn, is_lost, lost, show_members

OVER: tuple[str, ...] = ("ended", "refused", "failed")
"""States of a lease that has ended."""
HELD: tuple[str, ...] = ("reserved", "provisioning", "active")
"""States of a lease whose servers are, or are to be, the tenant's."""
LATER = Reason(
    code="starts_later",
    detail="it is asked for at its starts_at; until then it holds nothing",
    unblock="a lease that also has ends_at has its servers kept for it",
)
BOOKED = Reason(code="starts_later", detail="its servers are kept for it from its starts_at on")
GIVEN_UP_S: Final = limits.LEASE["releasing"].seconds
"""A server of a lease on its way out that was not heard for so long holds up the others no longer."""
RELEASED = Reason(code="released", detail="somebody released it")


STEPS: Final = {"erase": "it is being erased", "attest": "it is being attested"}
WIPE_IT = "it may hold a tenant's data: wipe or replace its disks by hand, then POST …:return"


class Access(NamedTuple):
    """Where a leased server is reached (``host:port``), and its console, if it has one."""

    address: str
    console: str | None


class LeaseWish(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was asked for, and never changes."""

    residency: Residency
    nodes: int = 0
    domains: int = 0
    gpu_model: str | None = None
    gpus_per_node: int | None = None
    near: Near = Near()
    assurances: tuple[str, ...] = ()
    wait_s: int = 0


class WantedLease(Owned, frozen=True, kw_only=True):
    """One lease: what was asked for, and what became of it so far.

    ``spoilt`` tells that it ends as ``failed``, once its servers are given back.
    """

    lease_id: str
    wished: LeaseWish
    state: LeaseState
    starts_at: datetime
    waits_until: datetime
    spoilt: bool = False
    active_at: datetime | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in OVER


def judge(lease: WantedLease, servers: Sequence[Member], now: datetime) -> Turn:
    """Return what the lease is now, given its servers: the same again changes nothing.

    Agents' facts are the evidence of each step. A server that cannot be handed over spoils the lease: all
    go back. One that breaks while it is the tenant's stays the tenant's. A server that was never begun
    holds nothing of anybody, and needs no erasing. One that is lost on the way out is given up after a while: it
    is not clean, and the others are shown to be.
    """
    turn = Turn(state=lease.state, reasons=lease.reasons, spoilt=lease.spoilt)
    if lease.over:
        return turn
    if lease.state == "requested":
        return _requested(lease, turn, now)
    assert servers, "a lease that has its place has servers"
    if lease.state in HELD:
        turn = _held(lease, servers, turn, now)
    return turn if turn.state in HELD else _given_back(servers, turn, now)


def released(lease: WantedLease, why: Reason = RELEASED) -> Turn:
    """Return what a lease becomes that nobody wants any more; one on its way out stays as it is."""
    turn = Turn(state=lease.state, reasons=lease.reasons, spoilt=lease.spoilt)
    if lease.state == "requested":
        tell = "cancel" if lease.place in {"waits", "booked"} else ""
        return msgspec.structs.replace(turn, state="ended", reasons=(why,), tell=tell)
    if lease.state in HELD:
        return msgspec.structs.replace(turn, state="releasing", reasons=(why,))
    return turn


def after_erasure(fact: ErasureRecorded, *, rehearsal: bool) -> tuple[Step, Reason, bool]:
    """Return how far a server has come after what its agent recorded, what that was, and whether it is clean.

    What is not shown to be clean goes to nobody: its node is cordoned. What was only rehearsed shows nothing,
    but of a server that is a ``rehearsal`` itself.
    """
    rehearsed = fact.quality == "rehearsed"
    if fact.verdict == "pass" and (rehearsal or not rehearsed):
        step: Step = "attest" if fact.step == "erased" else "done"
        label = " (rehearsed)" if rehearsed and not fact.method.startswith("rehearsal") else ""
        return step, Reason(code=fact.step, detail=f"{fact.method}{label}"), True
    found = "it was only rehearsed" if fact.verdict == "pass" else fact.verdict
    reason = Reason(
        code="erasure_failed" if fact.step == "erased" else "attestation_failed",
        detail=f"{fact.method}: {found}",
        unblock=WIPE_IT,
    )
    return "done", reason, False


def show_lease(
    lease: WantedLease,
    servers: Sequence[Member],
    now: datetime,
    *,
    rehearsal: bool = False,
    access: Mapping[str, Access] | None = None,
) -> Lease:
    """Return a lease as its owner sees it; ``access`` is where its servers are reached, by workload."""
    wished = lease.wished
    late = stuck(limits.LEASE, lease.state, lease.since, now)
    shown, left = show_members([_told(one, now) for one in servers], now)
    if lease.state == "active" and access:
        shown = [_reached(one, access.get(one.id)) for one in shown]
    return Lease(
        id=lease.lease_id,
        name=lease.name,
        project_id=lease.project,
        organization_id=lease.organization,
        project=lease.project_name,
        site=lease.site,
        nodes=wished.nodes,
        domains=wished.domains,
        residency=wished.residency,
        gpu_model=wished.gpu_model,
        gpus_per_node=wished.gpus_per_node,
        near=wished.near,
        assurances=list(wished.assurances),
        priority=lease.priority,
        wait_s=wished.wait_s,
        starts_at=lease.starts_at if lease.starts_at > lease.created_at else None,
        ends_at=lease.due_at,
        state=lease.state,
        generation=lease.generation,
        created_at=lease.created_at,
        since=lease.since,
        reasons=[*lease.reasons, *late],
        position=lease.position,
        expected_start_at=lease.expected_start_at,
        active_at=lease.active_at,
        ended_at=lease.ended_at,
        rehearsal=rehearsal,
        workloads=shown,
        workloads_left=left,
    )


def _told(server: Member, now: datetime) -> Member:
    """Return a server with what is done with it on its way to the next tenant, and why that is stuck, if it is."""
    if server.living or server.step not in limits.SERVER:
        return server
    since = server.since.isoformat(timespec="seconds")
    detail = f"{STEPS[server.step]} since {since}, for {limits.SERVER[server.step].seconds} s at most"
    told = Reason(code=f"server_{server.step}", detail=detail)
    late = stuck(limits.SERVER, server.step, server.since, now)
    return msgspec.structs.replace(server, reasons=(*server.reasons, told, *late))


def _reached(shown: Workload, at: Access | None) -> Workload:
    if at is None or shown.state != "ready":
        return shown
    return msgspec.structs.replace(shown, address=at.address, console=at.console)


def _requested(lease: WantedLease, turn: Turn, now: datetime) -> Turn:
    if lease.due_at is not None and now >= lease.due_at:
        return released(lease, _over(lease))
    if lease.place == "waits":
        if now < lease.waits_until:
            return turn
        return msgspec.structs.replace(turn, state="refused", tell="cancel")
    if now < lease.starts_at:
        if lease.place == "none" and lease.due_at is not None:
            return msgspec.structs.replace(turn, tell="reserve")
        return msgspec.structs.replace(turn, reasons=turn.reasons or (LATER,))
    return msgspec.structs.replace(turn, tell="ask")


def _held(lease: WantedLease, servers: Sequence[Member], turn: Turn, now: datetime) -> Turn:
    if lease.due_at is not None and now >= lease.due_at:
        return msgspec.structs.replace(turn, state="releasing", reasons=(_over(lease),))
    broken = [lost(one) for one in servers if is_lost(one, now)]
    broken += [
        reason
        for one in servers
        for reason in one.reasons
        if one.state in {"failed", "stopped"} or reason.code == DEVICE_GONE
    ]
    if lease.state == "active":
        return msgspec.structs.replace(turn, reasons=tuple(broken))
    if broken:
        return msgspec.structs.replace(turn, state="releasing", reasons=tuple(broken), spoilt=True)
    waits = sum(one.state != "ready" for one in servers)
    if not waits:
        return msgspec.structs.replace(turn, state="active", reasons=())
    begun = lease.state == "provisioning" or any(one.state != "assigned" for one in servers)
    reason = Reason(
        code="servers_provisioning",
        detail=f"{waits} of {len(servers)} servers are not handed over yet",
        count=waits,
    )
    state = "provisioning" if begun else "reserved"
    return msgspec.structs.replace(turn, state=state, reasons=(reason,))


def _given_back(servers: Sequence[Member], turn: Turn, now: datetime) -> Turn:
    gone = [one for one in servers if one.step != "done" and _given_up(one, now)]
    if gone:
        fails = tuple((one, _not_clean(one)) for one in gone)
        turn = msgspec.structs.replace(
            turn, fails=fails, reasons=tuple(reason for _, reason in fails), spoilt=True
        )
    stops = tuple(one for one in servers if one.going and one not in gone)
    steps: list[tuple[Member, Step]] = [(one, "done") for one in gone]
    if any(one.living for one in servers if one not in gone):
        return msgspec.structs.replace(turn, state="releasing", stops=stops, steps=tuple(steps))
    steps += [
        (one, "erase" if one.started_at is not None else "done")
        for one in servers
        if one.step == "hold" and one not in gone
    ]
    reached = {one.workload_id: step for one, step in steps}
    left = {reached.get(one.workload_id, one.step) for one in servers}
    if "erase" in left:
        return msgspec.structs.replace(turn, state="erasing", steps=tuple(steps))
    if "attest" in left:
        return msgspec.structs.replace(turn, state="attesting", steps=tuple(steps))
    state = "failed" if turn.spoilt else "ended"
    return msgspec.structs.replace(turn, state=state, steps=tuple(steps), tell="release")


def _given_up(server: Member, now: datetime) -> bool:
    silent = server.node_state == "lost"
    return silent and now - server.node_since >= timedelta(seconds=GIVEN_UP_S)


def _not_clean(server: Member) -> Reason:
    return Reason(
        code="erasure_failed",
        detail=f"{server.node} fell silent, and was not shown to be clean within {GIVEN_UP_S} s",
        unblock=WIPE_IT,
    )


def _over(lease: WantedLease) -> Reason:
    assert lease.due_at is not None
    return Reason(code="lease_over", detail=f"its ends_at, {lease.due_at.isoformat()}, has come")
