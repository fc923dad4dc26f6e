"""Maintenance windows: which can be, what a node is during one and after it, who is in the way, who waits for it.

A node that a window has taken out bears a reason with the window's id: this is all that says so, and what
is left of its reasons without it tells whether somebody else has taken it out, too.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec
import numpy as np
from mesh_contracts.ask import Problem
from mesh_contracts.placement import Maintenance, MaintenanceState, PlanMaintenance, Reason, Remaining

from placement.domain.admit import invalid
from placement.domain.engine.calendar import FOREVER, TURNAROUND_MS, Booking, free_at
from placement.domain.engine.engine import Engine
from placement.domain.engine.fit import BIT, fit
from placement.domain.engine.notice import Maintained
from placement.domain.engine.wish import Wish
from placement.domain.fleet import LEAVING, MAINTENANCE, Server
from placement.domain.health import DRAINED, DRAINING, REASONS_MAX, Turn, on_drained, on_returned
from placement.domain.wishes import at_of, in_words, milliseconds

PLANNED: Final = "maintenance_planned"
OVER: Final = ("ended", "cancelled")
"""States of a window that is over."""
WINDOWS_MAX: Final = 256
"""Windows that are planned or active at a site; the calendar has room for these beside its reservations."""
GRACE_S: Final = 3_600
"""What cannot be preempted may go on for so long from when a window was planned, and until its start at least."""
AHEAD_MAX_S: Final = 366 * 24 * 3_600
REMAIN_MAX: Final = 100
"""Workloads that are named as being in the way of one window."""
NAMED_MAX: Final = 5
OPERATORS: Final = {DRAINING, DRAINED}
"""Reasons of a node that somebody wanted emptied, too."""
KINDS: Final = ("lease", "job", "endpoint")


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """One window; ``nodes`` are ids, by the nodes' names."""

    window_id: str
    site: str
    state: MaintenanceState
    nodes: tuple[str, ...]
    names: tuple[str, ...]
    starts_at: datetime
    ends_at: datetime | None
    reason: str
    planned_by: str
    created_at: datetime
    since: datetime

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in OVER

    @property
    def drains_until(self) -> datetime:
        """Return until when what cannot be preempted may go on."""
        return max(self.starts_at, self.created_at + timedelta(seconds=GRACE_S))


def bad_window(ask: PlanMaintenance, now: datetime) -> Problem | None:
    """Return what is wrong with a window that is wished for, whatever nodes it is of, if anything."""
    if not ask.reason.strip():
        return invalid("reason", "say what is done to the nodes: it is shown wherever one is missed")
    if ask.ends_at is not None and ask.ends_at <= ask.starts_at:
        return invalid("ends_at", "ends_at must be after starts_at; leave it out for: until cancelled")
    if ask.ends_at is not None and ask.ends_at <= now:
        return invalid("ends_at", "ends_at has passed already: give one that is to come")
    last = now + timedelta(seconds=AHEAD_MAX_S)
    if ask.starts_at > last or (ask.ends_at or now) > last:
        field = "starts_at" if ask.starts_at > last else "ends_at"
        return invalid(field, f"{field} may be a year from now at most; leave ends_at out for longer")
    return None


def given_of(window: Window, now: datetime) -> Maintained:
    """Return a window as the engine is given it."""
    return Maintained(
        window=window.window_id,
        start=milliseconds(window.starts_at),
        end=None if window.ends_at is None else milliseconds(window.ends_at),
        nodes=window.nodes,
        at=milliseconds(now),
    )


def overlapping(engine: Engine, given: Maintained) -> tuple[Booking, str] | None:
    """Return the first booking that has one of a window's nodes at its time, and that node; nothing for none.

    A reservation that somebody sits in already is work that is there, as any other.
    """
    end = FOREVER if given.end is None else given.end
    rows = {engine.site.row_of[node]: node for node in given.nodes}
    for one in engine.turns.admission.calendar.bookings.values():
        both = rows.keys() & set(one.rows)
        if both and one.start < end and given.start < one.free and one.name not in engine.holdings:
            return one, rows[min(both)]
    return None


def why(window: Window) -> Reason:
    """Return why a node of a window takes nothing."""
    until = "it is cancelled" if window.ends_at is None else in_words(window.ends_at)
    begins = f"from {in_words(window.starts_at)} " if window.state == "planned" else ""
    return Reason(
        code=PLANNED if window.state == "planned" else MAINTENANCE,
        detail=f"maintenance {begins}until {until}: {window.reason} ({window.window_id})",
        unblock=f"DELETE /api/v1/sites/{window.site}/maintenance/{window.window_id} ends it before",
    )


def missing_of(server: Server, windows: Sequence[Window]) -> tuple[Reason, ...]:
    """Return what a node's own reasons do not say of its windows."""
    known = " ".join(one.detail for one in server.reasons)
    return tuple(why(one) for one in windows if one.window_id not in known)


def on_begun(server: Server, window: Window) -> Turn:
    """Return what a node becomes whose window has begun: it is emptied, and who took it out before still has."""
    others = _others(server) if server.state in LEAVING else ()
    state = server.state if server.state in {"draining", "repairing"} else "draining"
    return Turn(
        state=state,
        reasons=(*others[: REASONS_MAX - 1], why(window)),
        check_wished=server.check_wished,
        check_needed=server.check_needed,
    )


def on_over(server: Server) -> Turn:
    """Return what a node becomes whose window is over: checked before it takes work, unless others took it out."""
    others = _others(server)
    if not others:
        return on_returned(server)
    rest = msgspec.structs.replace(server, reasons=others)
    codes = {one.code for one in others}
    if not codes & OPERATORS:
        rest = msgspec.structs.replace(rest, state="cordoned")
    elif rest.state == "repairing" and DRAINED not in codes:
        return on_drained(rest)
    return Turn(
        state=rest.state,
        reasons=others,
        check_wished=rest.check_wished,
        check_needed=rest.check_needed,
    )


def remain(engine: Engine, names: Collection[str]) -> dict[str, list[Remaining]]:
    """Return by window who is on its nodes and has to leave, leases first: all, once it has begun."""
    calendar = engine.turns.admission.calendar
    windows = {name: calendar.bookings[name] for name in names if name in calendar.bookings}
    at: dict[int, list[Booking]] = {}
    for one in windows.values():
        for row in one.rows:
            at.setdefault(row, []).append(one)
    found: dict[str, list[Remaining]] = {name: [] for name in names}
    for workload, held in engine.holdings.items() if at else ():
        there = {one.name: one for part in held.parts for one in at.get(part.row, ())}
        leaves = free_at(held.wish, held.until)
        for name, one in there.items():
            if one.begun or leaves > one.start:
                found[name].append(Remaining(id=workload, kind=held.wish.kind))
    return {name: sorted(those, key=_leases_first) for name, those in found.items()}


def show_window(window: Window, there: Sequence[Remaining]) -> Maintenance:
    """Return a window as an operator sees it."""
    there = () if window.over else there
    return Maintenance(
        id=window.window_id,
        site=window.site,
        state=window.state,
        nodes=list(window.names),
        starts_at=window.starts_at,
        ends_at=window.ends_at,
        reason=window.reason,
        planned_by=window.planned_by,
        created_at=window.created_at,
        since=window.since,
        remain=list(there[:REMAIN_MAX]),
        remain_count=len(there),
        reasons=_in_the_way([one.id for one in there if one.kind == "lease"]),
    )


def waits_for(engine: Engine, wish: Wish) -> tuple[Reason, ...]:
    """Return that nodes which have room for a wish are kept for maintenance, and until when, if so."""
    turns, site = engine.turns, engine.site
    end = turns.now + wish.run_ms + TURNAROUND_MS[wish.kind] if wish.run_ms else FOREVER
    windows = [
        one
        for one in turns.admission.calendar.bookings.values()
        if one.wanted is None and one.start < end and one.end > turns.now
    ]
    if not windows:
        return ()
    shut = BIT["ready"] | BIT["heard"]
    room: set[int] = set()
    first = FOREVER
    for one in windows:
        rows = np.array(one.rows)
        fails = fit(site, wish.size, wish.terms, rows) & ~(shut if one.begun else 0)
        if not fails.all():
            room |= set(rows[fails == 0].tolist())
            first = min(first, one.end)
    if not room:
        return ()
    until = at_of(first) if first < FOREVER else None
    then = "until somebody cancels that" if until is None else f"the first until {in_words(until)}"
    later = all(one.start > turns.now for one in windows)
    ends = "give it a run_max_s: what ends before the start may run there" if later else ""
    return (
        Reason(
            code=MAINTENANCE,
            detail=f"nodes with room that are kept for maintenance: {len(room)}, {then}",
            unblock=ends or "wait until then, or ask an operator to end it before",
            count=len(room),
        ),
    )


def _others(server: Server) -> tuple[Reason, ...]:
    return tuple(one for one in server.reasons if one.code != MAINTENANCE)


def _in_the_way(leases: Sequence[str]) -> list[Reason]:
    if not leases:
        return []
    more = f" and {len(leases) - NAMED_MAX} more" if len(leases) > NAMED_MAX else ""
    return [
        Reason(
            code="leases_in_the_way",
            detail=f"leases stay until they end: {', '.join(leases[:NAMED_MAX])}{more}",
            unblock="agree with their tenants, or DELETE /api/v1/leases/{id}",
            count=len(leases),
        )
    ]


def _leases_first(one: Remaining) -> tuple[int, str]:
    return KINDS.index(one.kind), one.id
