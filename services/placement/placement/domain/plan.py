"""What to start and stop for one endpoint so that it becomes what was asked for."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec
from mesh_contracts.placement import EndpointState, Reason

from placement.domain.backoff import pause_s
from placement.domain.decide import Grant, Refusal
from placement.domain.fleet import Placed, Wanted

STEADY_AFTER_S = 60.0
"""A replica that served this long before it failed starts the count of failures anew."""
CRASH_LOOP_AFTER = 3
MOVES_FROM = 1_000_000
"""The first number of a successor that is to sit on one node: above those of all others of a plan."""

Seek = Callable[[int, Sequence[str], str], Grant | Refusal]
"""Places one more replica: its number among those of one plan, the nodes where others just failed, the node it must
sit on (empty: any)."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Start one replica; ``replaces`` names the workload whose work it takes over."""

    grant: Grant
    replaces: Placed | None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do for an endpoint, and what it is once that is done; ``failures`` count in a row.

    Of ``stops``, those in ``drains`` finish the requests they have before their nodes are told;
    ``returns`` are such as serve again, since they are needed after all.
    """

    places: tuple[Place, ...]
    stops: tuple[Placed, ...]
    drains: tuple[Placed, ...]
    returns: tuple[Placed, ...]
    missing: int
    state: EndpointState
    ready: int
    reasons: tuple[Reason, ...]
    refusal: Refusal | None
    retry_at: datetime | None
    failures: int


def plan(wanted: Wanted, workloads: Sequence[Placed], seek: Seek, now: datetime) -> Plan:
    """Decide what to start and stop; the same input gives the same plan, whatever its order.

    How many is decided here, where by ``seek``: what it grants is taken. A replica on a node that
    hands over its work stays until its successor answers. ``workloads`` are all that have not
    ended, and the last that have.
    """
    waits = wanted.retry_at is not None and now < wanted.retry_at
    if _steady(wanted, workloads, now) or (wanted.count == 0 and not waits):
        wanted = msgspec.structs.replace(wanted, failures=0)
    workloads = sorted(workloads, key=lambda item: (item.created_at, item.workload_id))
    returns = _returns(wanted.count, workloads)
    workloads = [_serving(item) if item in returns else item for item in workloads]
    living = [item for item in workloads if item.living]
    # Whoever is to sit elsewhere stays until there is room: then its successor begins, and it leaves.
    moves = [] if waits else _moves(workloads, seek, wanted.count)
    moved = {item.replaces for item in workloads if item.living}
    moved |= {place.replaces.workload_id for place in moves if place.replaces}
    leaving = [item for item in living if item.leaving or (item.moves_to and item.workload_id in moved)]
    staying = [item for item in living if item not in leaving]
    lacking = max(0, wanted.count - len(staying) - len(moves))
    places, refusal = ([], None) if waits else _places(workloads, seek, lacking)
    places = [*moves, *places]
    surplus = _surplus(wanted.count, staying)
    stops = surplus + _handed_over(wanted.count, staying, leaving)
    asked = [item for item in stops if item.moves_to and not item.leaving]
    drains = [item for item in surplus + asked if item.state == "ready" and not wanted.deleted]
    missing = lacking + len(moves) - len(places)

    stopped = {item.workload_id for item in stops}
    ready = 1 if wanted.external and not wanted.deleted else 0
    ready += sum(1 for item in living if item.state == "ready" and item.workload_id not in stopped)
    going = len(living) - len(stops) + len(places)
    ending = sum(1 for item in workloads if item.state == "stopping") + len(stops)
    state = _state(wanted, ready, going, going + ending)
    reasons = _reasons(
        wanted, state, ready, missing, refusal, leaving=bool(leaving), waits=waits, ending=ending
    )
    return Plan(
        places=tuple(places),
        stops=tuple(stops),
        drains=tuple(drains),
        returns=returns,
        missing=missing,
        state=state,
        ready=ready,
        reasons=reasons,
        refusal=refusal,
        retry_at=wanted.retry_at if waits else None,
        failures=wanted.failures,
    )


def after_failure(failures: int, ready_at: datetime | None, now: datetime) -> tuple[int, datetime]:
    """Return the failures in a row including this one, and when the next try may begin.

    The first is tried again at once; then after 1 s, 2 s, 4 s …, a minute at most.
    """
    if ready_at is not None and (now - ready_at).total_seconds() >= STEADY_AFTER_S:
        failures = 0
    wait_s = pause_s(failures)
    return failures + 1, now + timedelta(seconds=wait_s)


def _steady(wanted: Wanted, workloads: Sequence[Placed], now: datetime) -> bool:
    """Tell whether all have served so long that failures before are over (none was noted just now)."""
    whole = wanted.state == "serving" and wanted.ready >= wanted.count and wanted.retry_at is None
    began = [item.ready_at for item in workloads if item.living and item.ready_at is not None]
    served_s = (now - max([wanted.since, *began])).total_seconds()
    return whole and served_s >= STEADY_AFTER_S


def _returns(count: int, workloads: Sequence[Placed]) -> tuple[Placed, ...]:
    """Return which of those that only finish what they have are to serve again."""
    staying = sum(1 for item in workloads if item.living and not item.leaving)
    draining = [item for item in workloads if item.draining and not (item.leaving or item.moves_to)]
    return tuple(draining[: max(0, count - staying)])


def _serving(item: Placed) -> Placed:
    return msgspec.structs.replace(item, state="ready", drains_until=None)


def _moves(workloads: Sequence[Placed], seek: Seek, count: int) -> list[Place]:
    """Return successors on the nodes where replicas are to sit, for those that have none and for whom there is room."""
    heirs = {item.replaces for item in workloads if item.living}
    movers = [
        item
        for item in workloads
        if item.moves_to and item.living and not item.leaving and item.workload_id not in heirs
    ]
    places = []
    for number, item in enumerate(movers[:count]):
        assert item.moves_to is not None
        failed_on = [one.node_id for one in workloads if one.state == "failed"]
        answer = seek(MOVES_FROM + number, failed_on, item.moves_to)
        if isinstance(answer, Grant):
            places.append(Place(grant=answer, replaces=item))
    return places


def _places(
    workloads: Sequence[Placed], seek: Seek, lacking: int
) -> tuple[list[Place], Refusal | None]:
    # The next try goes elsewhere than where this endpoint just failed, if it can.
    failed_on = [item.node_id for item in workloads if item.state == "failed"]
    taken_over = {item.replaces for item in workloads if item.living or item.ready_at is not None}
    heirless = [item for item in workloads if item.leaving and item.living]
    heirless += [item for item in reversed(workloads) if item.state == "failed"]
    heirless = [item for item in heirless if item.workload_id not in taken_over]
    places: list[Place] = []
    for number in range(lacking):
        answer = seek(number, failed_on, "")
        if isinstance(answer, Refusal):
            return places, answer
        places.append(
            Place(grant=answer, replaces=heirless[number] if number < len(heirless) else None)
        )
    return places, None


def _surplus(count: int, staying: list[Placed]) -> list[Placed]:
    # What does not answer yet goes first, then the youngest.
    order = sorted(staying, key=lambda item: (item.state == "ready", -item.created_at.timestamp()))
    return order[: max(0, len(staying) - count)]


def _handed_over(count: int, staying: list[Placed], leaving: list[Placed]) -> list[Placed]:
    covered = sum(1 for item in staying if item.state == "ready")
    still_needed = max(0, count - covered)
    # An engine that served before, and begins anew with its machine, serves on where nobody else can.
    serving = [item for item in leaving if item.state == "ready" or item.ready_at is not None]
    serving.sort(key=lambda item: item.state != "ready")
    return [item for item in leaving if item not in serving] + serving[still_needed:]


def _state(wanted: Wanted, ready: int, going: int, unfinished: int) -> EndpointState:
    if wanted.deleted:
        return "stopping" if unfinished else "stopped"
    if wanted.external:
        return "serving"
    if wanted.count == 0:
        return "asleep"
    if ready >= min(wanted.count, max(wanted.replicas.min, 1)):
        # One more that demand asks for is on its way, or its reasons say why not; what was promised serves.
        return "serving"
    if ready > 0 or wanted.state in {"serving", "degraded"} or wanted.failures >= CRASH_LOOP_AFTER:
        return "degraded"
    return "starting" if going else "pending"


def _reasons(
    wanted: Wanted,
    state: EndpointState,
    ready: int,
    missing: int,
    refusal: Refusal | None,
    *,
    leaving: bool,
    waits: bool,
    ending: int,
) -> tuple[Reason, ...]:
    reasons: list[Reason] = []
    if state == "asleep":
        detail = "no request came for a while, and replicas.min is 0"
        unblock = "a request wakes it; with replicas.min 1 it stays awake"
        reasons.append(Reason(code="scaled_to_zero", detail=detail, unblock=unblock))
    if refusal is not None:
        reasons += [msgspec.structs.replace(item, count=missing) for item in refusal.reasons]
    if wanted.failures >= CRASH_LOOP_AFTER and ready < wanted.count:
        detail = (
            f"its engine failed {wanted.failures} times in a row; it is tried again with growing pauses"
        )
        unblock = "see the workloads' reasons; check the model, and that resources.memory_mib is enough"
        reasons.append(Reason(code="crash_loop", detail=detail, unblock=unblock, count=wanted.failures))
    elif waits and missing:
        detail = "a replica failed and is tried again after a pause"
        reasons.append(Reason(code="backing_off", detail=detail, count=missing))
    if leaving and not wanted.deleted:
        detail = "a replica moves to another node; it answers until its successor does"
        reasons.append(Reason(code="moving", detail=detail))
    if not reasons and state not in {"stopping", "stopped"} and ready < wanted.count:
        detail = f"{ready} of {wanted.count} replicas answer"
        reasons.append(Reason(code="replica_starting", detail=detail, count=wanted.count - ready))
    if state == "stopping" or (state == "asleep" and ending):
        reasons.append(Reason(code="engines_stopping", detail="its engines are being stopped"))
    return tuple(reasons)
