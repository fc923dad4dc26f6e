"""Heartbeats believed where no fact came: an engine that answers, or is not there any more."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from mesh_contracts.placement import Reason
from meshkit.store import Transaction

from placement import members, reading
from placement.domain.fleet import Occasion, Placed
from placement.domain.members import Came, Member
from placement.heartbeats import ABSENT_AFTER_S, Heartbeats
from placement.turns import now_came, now_ended, now_ready

REPAIRS_MAX = 64
"""Engines, and as many members, that are put right at once; the others next time."""


class Differs(NamedTuple):
    """Engines and members, by workload, of which heartbeats say otherwise than we do."""

    engines: tuple[str, ...]
    members: tuple[str, ...]


NOTHING = Differs((), ())


async def differing(tx: Transaction, beats: Heartbeats, now: datetime, within_s: float) -> Differs:
    """Compare what nodes that spoke lately say they run with what we know."""
    engines = [
        one.workload_id
        for one in await reading.load_running(tx)
        if beats.speaks(one.node_id, within_s) and _engine(beats, one, now)
    ]
    there = [
        one.workload_id
        for one in await members.on_node(tx)
        if beats.speaks(one.node_id, within_s) and _member(beats, one, now) is not None
    ]
    return Differs(tuple(engines[:REPAIRS_MAX]), tuple(there[:REPAIRS_MAX]))


async def repair(
    tx: Transaction,
    beats: Heartbeats,
    now: datetime,
    differs: Differs,
    occasion: Callable[[], Occasion],
) -> None:
    """Put right what still differs: what is done for one may change another."""
    for workload_id in differs.engines:
        item = await reading.load_workload(tx, workload_id)
        if item is not None:
            await _mend(tx, beats, item, now, occasion())
    for workload_id in differs.members:
        member = await members.load(tx, workload_id)
        if member is not None and (came := _member(beats, member, now)) is not None:
            await now_came(tx, occasion(), now, member, came)


async def _mend(
    tx: Transaction, beats: Heartbeats, item: Placed, now: datetime, occasion: Occasion
) -> None:
    match _engine(beats, item, now):
        case "answers":
            address = beats.statuses(item.node_id)[item.workload_id].address or ""
            await now_ready(tx, occasion, now, item, scheme=item.scheme, address=address)
        case "absent":
            detail = f"{item.node} has listed no such engine for {int(ABSENT_AFTER_S)} s"
            await now_ended(tx, occasion, now, item, Reason(code="engine_absent", detail=detail))


def _engine(beats: Heartbeats, item: Placed, now: datetime) -> Literal["", "answers", "absent"]:
    """Return what an engine has come to by its node's heartbeats, where no fact told it."""
    status = beats.statuses(item.node_id).get(item.workload_id)
    if item.held_back:
        return ""
    if status is None:
        return "absent" if beats.absent_s(item, now) > ABSENT_AFTER_S else ""
    late = now - item.since > timedelta(seconds=ABSENT_AFTER_S)
    answers = status.state == "ready" and status.address and item.state in {"assigned", "starting"}
    return "answers" if late and answers else ""


def _member(beats: Heartbeats, member: Member, now: datetime) -> Came | None:
    """Return what a member has come to by its node's heartbeats, where no fact told it.

    One that was never begun waits: its agent may not have read of it yet.
    """
    status = beats.statuses(member.node_id).get(member.workload_id)
    if status is not None:
        runs = status.state == "ready" or (status.state == "starting" and member.kind == "job")
        if member.kind == "lease" and member.state == "stopping" and member.started_at is None:
            return Came(state="stopping", reasons=member.reasons, begun=True)
        late = now - member.since > timedelta(seconds=ABSENT_AFTER_S)
        goes = late and runs and member.going and member.state != "ready"
        return Came(state="ready", begun=True) if goes else None
    begun = member.state in {"starting", "ready", "stopping"}
    if not begun or beats.absent_s(member, now) <= ABSENT_AFTER_S:
        return None
    if member.state == "stopping":
        return Came(state="stopped", reasons=member.reasons)
    detail = f"{member.node} has not listed member {member.number} for {int(ABSENT_AFTER_S)} s"
    return Came(state="failed", reasons=(Reason(code="member_absent", detail=detail),))
