"""Heartbeats believed where no fact came: an engine that answers, or is not there any more."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from mesh_contracts.placement import Reason
from meshkit.store import Transaction

from placement import members, reading, standing
from placement.domain.fleet import Occasion, Placed
from placement.domain.members import Came, Member
from placement.heartbeats import ABSENT_AFTER_S, Heartbeats
from placement.turns import now_came, now_ended, now_ready

REPAIRS_MAX = 64
"""Engines, and as many members, that are put right at once; the others next time."""
NODES_AT_ONCE = 512
"""Nodes whose tables are read at once."""
BEGUN = frozenset({"starting", "ready", "stopping"})


class Differs(NamedTuple):
    """Engines and members, by workload, of which heartbeats say otherwise than we do."""

    engines: tuple[str, ...]
    members: tuple[str, ...]


NOTHING = Differs((), ())


async def differing(tx: Transaction, beats: Heartbeats, now: datetime, within_s: float) -> Differs:
    """Compare what nodes that spoke lately say they run with what we know."""
    nodes = [node_id for node_id in beats.heard if beats.speaks(node_id, within_s)]
    engines: list[str] = []
    there: list[str] = []
    # Some nodes after others, and in full only what may differ: who asks waits for none of it.
    for first in range(0, len(nodes), NODES_AT_ONCE):
        some = nodes[first : first + NODES_AT_ONCE]
        unlike = [one[0] for one in await standing.engines_on(tx, some) if not _agrees(beats, *one)]
        loaded = await reading.workloads_of(tx, unlike)
        engines += [one.workload_id for one in loaded if _engine(beats, one, now)]
        unlike = [
            one[0]
            for one in await standing.members_on(tx, some)
            if not (_agrees(beats, *one) or _unbegun(beats, *one))
        ]
        held = await members.load_all(tx, unlike)
        there += [one.workload_id for one in held if _member(beats, one, now) is not None]
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


def _agrees(beats: Heartbeats, workload_id: str, node_id: str, state: str) -> bool:
    """Tell whether a node says of a workload what we know."""
    status = beats.statuses(node_id).get(workload_id)
    return status is not None and status.state == state == "ready"


def _unbegun(beats: Heartbeats, workload_id: str, node_id: str, state: str) -> bool:
    """Tell whether a member has not begun, or not any more, and its node lists none."""
    return workload_id not in beats.statuses(node_id) and state not in BEGUN


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
    if member.state not in BEGUN or beats.absent_s(member, now) <= ABSENT_AFTER_S:
        return None
    if member.state == "stopping":
        return Came(state="stopped", reasons=member.reasons)
    detail = f"{member.node} has not listed member {member.number} for {int(ABSENT_AFTER_S)} s"
    return Came(state="failed", reasons=(Reason(code="member_absent", detail=detail),))
