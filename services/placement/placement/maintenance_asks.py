"""The door for maintenance windows, one function each."""

from datetime import UTC

from mesh_contracts.ask import Principal, Problem
from mesh_contracts.fact import born_of
from mesh_contracts.placement import (
    CancelMaintenance,
    ListMaintenance,
    Maintenance,
    MaintenancePlanned,
    Maintenances,
    PlanMaintenance,
)
from mesh_contracts.units import derived_id
from meshkit.clock import Clock
from meshkit.store import Transaction

from placement import maintaining, memory, reading, windows
from placement.domain.admit import invalid
from placement.domain.engine.calendar import FOREVER
from placement.domain.engine.notice import NotBooked
from placement.domain.maintenance import (
    WINDOWS_MAX,
    Window,
    bad_window,
    given_of,
    overlapping,
    remain,
    show_window,
)
from placement.domain.wishes import at_of, in_words, milliseconds
from placement.naming import missing
from placement.sitememory import Memory


async def plan_maintenance(
    ask: PlanMaintenance, principal: Principal, tx: Transaction, clock: Clock
) -> Maintenance | Problem:
    """Keep nodes free for those who work on them from then on, and answer with what will have to leave."""
    held = await memory.hold(tx, ask.site)
    # What time it is counts once it is our turn: whoever was before us has told the engine theirs.
    now = clock.now()
    fault = bad_window(ask, now)
    if fault is not None:
        return fault
    found = await windows.named(tx, ask.site, ask.nodes)
    for number, text in enumerate(ask.nodes):
        node = found.get(text)
        if node is None or node[0] not in held.engine.site.row_of:
            detail = f"there is no node {text!r} at this site: GET /api/v1/nodes lists them"
            return invalid(f"nodes[{number}]", detail, "node_not_found")
    if await windows.count(tx, ask.site) >= WINDOWS_MAX:
        return _full()
    nodes = sorted(dict(found.values()).items(), key=lambda one: one[::-1])
    window = Window(
        window_id=derived_id("window", ask.asked_at, ask.ask_id),
        site=ask.site,
        state="planned",
        nodes=tuple(node for node, _ in nodes),
        names=tuple(name for _, name in nodes),
        starts_at=ask.starts_at.astimezone(UTC),
        ends_at=None if ask.ends_at is None else ask.ends_at.astimezone(UTC),
        reason=ask.reason,
        planned_by=principal.principal_id,
        created_at=now,
        since=now,
    )
    fault = await _book(tx, held, window, milliseconds(now))
    if fault is not None:
        return fault
    await windows.keep(tx, window)
    born = born_of(ask, now, MaintenancePlanned, key=window.window_id)
    await tx.tell(
        MaintenancePlanned(
            **born,
            window_id=window.window_id,
            principal_id=principal.principal_id,
            reason=window.reason,
            node_ids=list(window.nodes),
            starts_at=window.starts_at,
            ends_at=window.ends_at,
        )
    )
    return _shown(held, [window])[0]


async def list_maintenance(
    ask: ListMaintenance, principal: Principal, tx: Transaction, clock: Clock
) -> Maintenances:
    """Return the site's windows, each with who is still on its nodes."""
    del principal, clock
    limit = max(1, min(ask.page.limit, reading.PAGE_MAX))
    found = await windows.listed(tx, ask.site, ask.page.cursor or "", limit + 1, ended=ask.ended)
    shown = found[:limit]
    return Maintenances(
        items=_shown(await memory.hold(tx, ask.site), shown),
        next=shown[-1].window_id if len(found) > limit else None,
    )


async def cancel_maintenance(
    ask: CancelMaintenance, principal: Principal, tx: Transaction, clock: Clock
) -> Maintenance | Problem:
    """Have a window be no more: planned, or active already. One that is over stays as it is."""
    held = await memory.hold(tx, ask.site)
    window = await windows.load(tx, ask.site, ask.window)
    if window is None:
        return missing("window", ask.window, "GET …/maintenance lists those that there are")
    if not window.over:
        await maintaining.end(tx, ask, clock.now(), window, principal.principal_id)
        window = await windows.load(tx, ask.site, ask.window) or window
    return _shown(held, [window])[0]


async def _book(tx: Transaction, held: Memory, window: Window, at: int) -> Problem | None:
    """Have the engine keep the nodes, or return why it does not."""
    given = given_of(window, window.created_at)
    names = dict(zip(window.nodes, window.names, strict=True))
    if given.end is not None and given.end <= max(at, held.engine.turns.now):
        return invalid("ends_at", "ends_at has passed already: give one that is to come")
    found = overlapping(held.engine, given)
    if found is not None:
        booking, node = found
        until = at_of(booking.end) if booking.end < FOREVER else None
        what = "in maintenance" if booking.wanted is None else "reserved"
        begins = at_of(booking.start)
        assert begins is not None, "a booking has a start"
        span = (
            f"from {in_words(begins)} until {'it is cancelled' if until is None else in_words(until)}"
        )
        return Problem(
            title="The nodes are kept for something else then",
            status=409,
            code="window_overlaps",
            detail=f"{names[node]} is {what} {span} ({booking.name}): choose another time, leave that node"
            " out, or end that first",
            param="nodes",
        )
    if isinstance(await memory.apply(tx, window.site, given), NotBooked):
        return _full()
    return None


def _shown(held: Memory, shown: list[Window]) -> list[Maintenance]:
    there = remain(held.engine, [one.window_id for one in shown if not one.over])
    return [show_window(one, there.get(one.window_id, ())) for one in shown]


def _full() -> Problem:
    return Problem(
        title="The calendar is full",
        status=409,
        code="calendar_full",
        detail=f"{WINDOWS_MAX} windows, or as many reservations as the calendar has room for, are still to"
        " come: cancel one, or put more nodes into one window",
    )
