"""The door for what would be: where something would go, on the site as it is or as it might become; what to move."""

from mesh_contracts.ask import Principal, Problem
from mesh_contracts.placement import ExplainPlacement, Explanation, Moves, PlanMoves
from meshkit.clock import Clock
from meshkit.store import Transaction

from placement import memory, reading
from placement.domain.admit import bad_jurisdictions, bad_resources, invalid
from placement.domain.admit_work import bad_near
from placement.domain.engine.defrag import plan
from placement.domain.engine.wish import Wish
from placement.domain.suppose import Unknown, answer, inputs_of, moves_of
from placement.domain.wishes import milliseconds, near_of, size_of, terms_of
from placement.naming import sees_all

NAMED_CHARS = 50
NOBODY = "nobody"
"""Whose place is asked for by who has no organization."""


async def explain_placement(
    ask: ExplainPlacement, principal: Principal, tx: Transaction, clock: Clock
) -> Explanation | Problem:
    """Return where members of this shape would go, or why nowhere, and what the changes would do.

    Nothing is taken, and nothing changed: a copy is asked.
    """
    fault = (
        bad_resources(ask.resources)
        or bad_jurisdictions(ask.residency.jurisdictions)
        or bad_near(ask.near, ask.members, ask.resources)
    )
    if fault is not None:
        return fault
    if ask.supposed and not sees_all(principal):
        return _operators()
    at = milliseconds(clock.now())
    engine = await memory.copy(tx, ask.site)
    names = await reading.names(tx, ask.site)
    nodes = {name: node for node, name in names.items()} | {node: node for node in names}
    changes = inputs_of(engine, ask.supposed, nodes)
    if isinstance(changes, Unknown):
        detail = f"there is no {changes.name!r} at this site: GET /api/v1/nodes shows what there is"
        return invalid(f"changes[{changes.number}].{changes.field}", detail, "domain_not_found")

    def called(node: str) -> str:
        # What is added to the site is called after the node it is like; a name has 63 characters at most.
        like, more, number = node.partition("+")
        name = names.get(like, like)
        return f"{name[:NAMED_CHARS]}.added-{number}" if more else name

    return answer(
        engine,
        changes,
        _wish(ask, principal),
        site=ask.site,
        called=called,
        others=sees_all(principal),
        at=at,
    )


def _wish(ask: ExplainPlacement, principal: Principal) -> Wish:
    organization = principal.organization or NOBODY
    return Wish(
        workload="explained",
        organization=organization,
        project=principal.project or NOBODY,
        kind="job" if ask.members > 1 else "endpoint",
        size=size_of(ask.resources),
        members=ask.members,
        terms=terms_of(ask.residency.jurisdictions, ask.assurances, organization, ask.isolation),
        near=near_of(ask.near),
        apart="",
        priority=ask.priority,
    )


def _operators() -> Problem:
    return Problem(
        title="Not allowed",
        status=403,
        code="forbidden",
        detail="what a change would do to others is for operators: leave changes out, or use an admin's key",
        param="changes",
    )


async def plan_moves(
    ask: PlanMoves, principal: Principal, tx: Transaction, clock: Clock
) -> Moves | Problem:
    """Return moves that would make room for more members of a shape. None is made: ``make_moves`` has them made."""
    del principal, clock
    fault = bad_resources(ask.resources) or bad_jurisdictions(ask.residency.jurisdictions)
    if fault is not None:
        return fault
    held = await memory.hold(tx, ask.site)
    found = plan(
        held.engine,
        size_of(ask.resources),
        terms_of(ask.residency.jurisdictions, (), "", ask.isolation),
        moves_max=ask.moves_max,
    )
    return moves_of(held.engine, found, held.called)
