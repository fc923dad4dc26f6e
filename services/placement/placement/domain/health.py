"""What a node becomes when it joins, is checked, or somebody asks."""

from collections.abc import Sequence

import msgspec
from mesh_contracts.node import Check, HealthChanged, NodeJoined
from mesh_contracts.placement import NodeState, Reason

from placement.domain.fleet import LEAVING, MAINTENANCE, Held, Server

REASONS_MAX = 16
DEVICE_GONE = "device_gone"
HELD = "quarantine_held"
"""Why a node that failed its check takes work all the same: the breaker is open (``breaker``)."""
RETURN_IT = "repair it, then POST /api/v1/nodes/{id}:return: it is checked again before it takes work"

DRAINING, DRAINED = "draining_by_operator", "drained"
"""Why a node is being emptied, and why one that is empty stays out."""
SILENT = "silent"
"""Why a node is lost; what had taken it out before stands behind it."""
STAY = "wait until it is empty; POST /api/v1/nodes/{id}:return takes it back before"


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What the node is from now on; the checks that were wished for and are needed."""

    state: NodeState
    reasons: tuple[Reason, ...]
    check_wished: int
    check_needed: int


def lost_of(fact: NodeJoined, held: Sequence[Held], *, modes: bool = True) -> Reason | None:
    """Return which device that somebody holds a node has no more, if any.

    With ``modes`` one whose MIG mode is another by now counts as gone: what ran there ended with the mode it ran in.
    """
    present = {device.device_id: device for device in fact.devices}
    for one in held:
        device = present.get(one.device_id)
        if device is None:
            return Reason(
                code=DEVICE_GONE, detail=f"{fact.name} has no device {one.device_id} any more"
            )
        if modes and device.mig != bool(one.slices):
            mode = "in" if device.mig else "no longer in"
            return Reason(code=DEVICE_GONE, detail=f"{one.device_id} of {fact.name} is {mode} MIG mode")
    return None


def on_joined(server: Server) -> Turn:
    """Return what a node becomes whose agent (re)started: validating, but one that was taken out stays so.

    The agent checks itself at its start, so the next verdict of any number opens the node; one that waits for the check
    of its return waits on, also where it was lost meanwhile.
    """
    if server.state in LEAVING:
        return _turn(server, server.state, server.reasons)
    reason = Reason(code="being_checked", detail="its agent started; the first check must pass")
    needed = server.check_needed if server.state in {"validating", "lost"} else 0
    return _out_before(server) or _turn(server, "validating", (reason,), needed=needed)


def on_checked(server: Server, fact: HealthChanged) -> Turn:
    """Return what a node becomes after a verdict.

    ``fail`` and ``inconclusive`` cordon it: a node that cannot be shown to be sound takes no work.
    ``pass`` and ``warn`` open a validating node only where the verdict is as new as what was wished
    for, and never a cordoned or lost one. Numbers go on from the node's own: it runs none below.
    """
    server = msgspec.structs.replace(server, check_wished=max(server.check_wished, fact.check))
    if server.state == "lost":
        return _turn(server, server.state, server.reasons)
    if fact.verdict in {"fail", "inconclusive"}:
        if server.state in LEAVING and server.state != "cordoned":
            return _turn(server, server.state, server.reasons)
        return _turn(server, "cordoned", faults(fact.checks, fact.verdict))
    if server.state == "validating" and fact.check >= server.check_needed:
        return _turn(server, "ready", faults(fact.checks, "warn") if fact.verdict == "warn" else ())
    if server.state == "ready" and fact.verdict == "pass":
        gone = {"health_warn"}
        if fact.check >= server.check_needed and all(one.code != HELD for one in server.reasons):
            # What the breaker held up has been looked at, and checked anew.
            gone |= {"health_fail", "health_inconclusive"}
        return _turn(server, "ready", tuple(one for one in server.reasons if one.code not in gone))
    return _turn(server, server.state, server.reasons)


def last_checks(server: Server, checks: Sequence[Check]) -> list[Check]:
    """Return the last checks of each device a node has: those it was checked with now, and what was before of the others."""
    now = {check.device_id for check in checks}
    still = {card.device_id for card in server.cards} - now
    return [*(check for check in server.checks if check.device_id in still), *checks]


def on_returned(server: Server) -> Turn:
    """Return what a node becomes that should take work again: validating, until a fresh check passes."""
    wished = server.check_wished + 1
    reason = Reason(code="being_checked", detail="a fresh check must pass before it takes work again")
    return _turn(server, "validating", (reason,), wished=wished, needed=wished)


def on_heard(server: Server) -> Turn:
    """Return what a lost node becomes that is heard again: checked anew, but one that was taken out before stays so."""
    return _out_before(server) or on_returned(server)


def on_cordoned(server: Server, why: str) -> Turn:
    """Return what a node becomes that somebody wants free of work."""
    reason = Reason(code="cordoned_by_operator", detail=why, unblock=RETURN_IT)
    return _turn(server, "cordoned", (reason,))


def on_draining(server: Server, why: str) -> Turn:
    """Return what a node becomes that somebody wants emptied."""
    reason = Reason(code=DRAINING, detail=why, unblock=STAY)
    return _turn(server, "draining", (reason,))


def on_drained(server: Server) -> Turn:
    """Return what a node becomes on which nothing runs any more, as was wished; in a window it says why as before."""
    if any(reason.code == MAINTENANCE for reason in server.reasons):
        return _turn(server, "repairing", server.reasons)
    why = "; ".join(reason.detail for reason in server.reasons)
    detail = f"nothing runs on it any more{why and f': {why}'}"
    return _turn(server, "repairing", (Reason(code=DRAINED, detail=detail, unblock=RETURN_IT),))


def on_unclean(server: Server, reason: Reason) -> Turn:
    """Return what a node becomes that may hold what its last tenant left."""
    if server.state == "lost" or (server.state in LEAVING and server.state != "cordoned"):
        return _turn(server, server.state, (*server.reasons[: REASONS_MAX - 1], reason))
    return _turn(server, "cordoned", (reason,))


def on_check_wished(server: Server) -> Turn:
    """Return a node with one more check wished for; its state stays."""
    return _turn(server, server.state, server.reasons, wished=server.check_wished + 1)


def on_lost(server: Server, silent_ms: int) -> Turn:
    """Return a node nobody hears; whatever had taken it out before still does."""
    reason = Reason(
        code=SILENT,
        detail=f"no heartbeat for {silent_ms} ms while our own connection was whole",
        unblock="see whether the server and its agent run; it is checked again once it is heard",
    )
    before = server.reasons if server.state in LEAVING else ()
    # What a window takes out follows from the windows alone.
    kept = [one for one in before if one.code != MAINTENANCE]
    return _turn(server, "lost", (reason, *kept[: REASONS_MAX - 1]))


def faults(checks: list[Check], verdict: str) -> tuple[Reason, ...]:
    """Return one reason a check that did not pass, naming the device and the broken part."""
    reasons = []
    for check in checks:
        if check.verdict == "pass":
            continue
        part = f", row {check.evidence['row']}" if "row" in check.evidence else ""
        label = " (rehearsal)" if check.rehearsal else ""
        reasons.append(
            Reason(
                code=f"health_{check.verdict}",
                detail=f"{check.name} on {check.device_id}{label}{part}: {check.detail}",
                unblock=check.action or RETURN_IT,
            )
        )
    if not reasons:
        detail = f"the health check ended as {verdict} without naming a device"
        reasons.append(Reason(code=f"health_{verdict}", detail=detail, unblock=RETURN_IT))
    return tuple(reasons[:REASONS_MAX])


def _out_before(server: Server) -> Turn | None:
    """Return a lost node as it was taken out before it fell silent, if it was: switching it off repairs nothing."""
    kept = tuple(one for one in server.reasons if one.code != SILENT)
    if server.state != "lost" or not kept:
        return None
    codes = {one.code for one in kept}
    state: NodeState = "cordoned"
    if codes & {DRAINING, DRAINED}:
        state = "repairing" if DRAINED in codes else "draining"
    return _turn(server, state, kept)


def _turn(
    server: Server,
    state: NodeState,
    reasons: tuple[Reason, ...],
    *,
    wished: int | None = None,
    needed: int | None = None,
) -> Turn:
    return Turn(
        state=state,
        reasons=reasons,
        check_wished=server.check_wished if wished is None else wished,
        check_needed=server.check_needed if needed is None else needed,
    )
