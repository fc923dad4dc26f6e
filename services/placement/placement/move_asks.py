"""The door for moves of replicas, one function each; what to move is planned in ``explaining``."""

from datetime import timedelta

from mesh_contracts.ask import Principal, Problem
from mesh_contracts.placement import ListMoves, MakeMoves, Movings
from meshkit.clock import Clock
from meshkit.store import Transaction

from placement import memory, moving, reading
from placement.domain.admit import invalid
from placement.domain.fleet import Placed
from placement.domain.moves import TRIED_FOR_S
from placement.settle import settle


async def make_moves(
    ask: MakeMoves, principal: Principal, tx: Transaction, clock: Clock
) -> Movings | Problem:
    """Have replicas sit elsewhere: each serves until its successor answers there."""
    del principal
    await memory.hold(tx, ask.site)
    nodes = await moving.wished(tx, ask.site, ask.moves)
    if await moving.count(tx, ask.site) + len(ask.moves) > moving.OPEN_MAX:
        return _full()
    chosen: dict[str, tuple[Placed, str]] = {}
    for number, one in enumerate(ask.moves):
        item = await reading.load_workload(tx, one.id)
        if item is None or item.site != ask.site or not item.living or one.id in chosen:
            detail = f"no replica {one.id!r} runs at this site (or it is named twice): GET /api/v1/endpoints/NAME lists them"
            return invalid(f"moves[{number}].id", detail, "replica_not_found")
        if item.moves_to is not None:
            return _moves_already(item)
        node = nodes.get(one.to_node)
        if node is None:
            detail = f"there is no node {one.to_node!r} at this site: GET /api/v1/nodes lists them"
            return invalid(f"moves[{number}].to_node", detail, "node_not_found")
        if node == item.node_id:
            return invalid(f"moves[{number}].to_node", f"{one.id} is there already", "already_there")
        chosen[one.id] = (item, node)
    now = clock.now()
    for item, node in chosen.values():
        await moving.begin(tx, item, node, now + timedelta(seconds=TRIED_FOR_S))
    await settle(tx, ask, now, endpoints=sorted({item.endpoint_id for item, _ in chosen.values()}))
    return Movings(items=[one for one in await moving.listed(tx, ask.site) if one.id in chosen])


async def list_moves(ask: ListMoves, principal: Principal, tx: Transaction, clock: Clock) -> Movings:
    """Return the moves that are not over."""
    del principal, clock
    return Movings(items=await moving.listed(tx, ask.site))


def _moves_already(item: Placed) -> Problem:
    return Problem(
        title="Moves already",
        status=409,
        code="moves_already",
        detail=f"{item.workload_id} is on its way to another node: GET /api/v1/sites/{item.site}/moves shows it",
    )


def _full() -> Problem:
    return Problem(
        title="Too many moves",
        status=409,
        code="too_many_moves",
        detail=f"a site has {moving.OPEN_MAX} moves at once: wait until some are over, or send fewer",
    )
