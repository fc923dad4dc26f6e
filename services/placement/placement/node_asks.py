"""The door for questions and wishes about nodes, one function each."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

from mesh_contracts.ask import Principal, Problem
from mesh_contracts.placement import (
    CheckNode,
    CordonNode,
    DrainNode,
    GetNode,
    ListNodes,
    Node,
    Nodes,
    ReturnNode,
)
from meshkit.clock import Clock
from meshkit.store import Transaction

from placement import memory, reading, store, windows
from placement.domain.admit_work import TIME_MAX_S
from placement.domain.fleet import Server
from placement.domain.health import Turn, on_check_wished, on_cordoned, on_draining, on_returned
from placement.domain.maintenance import Window, missing_of, why
from placement.domain.show import show_node
from placement.heartbeats import Heartbeats
from placement.naming import moved_on
from placement.settle import settle
from placement.turns import now_drained, turn_node

A = TypeVar("A", CordonNode, DrainNode, ReturnNode, CheckNode)


class NodeAsks:
    """Answers about nodes; ``beats`` tells when each was last heard."""

    def __init__(self, beats: Heartbeats) -> None:
        self._beats = beats

    async def list_nodes(
        self, ask: ListNodes, principal: Principal, tx: Transaction, clock: Clock
    ) -> Nodes | Problem:
        """Return the site's nodes by name."""
        del principal
        limit = max(1, min(ask.page.limit, reading.PAGE_MAX))
        found = await reading.list_servers(tx, ask.site, ask.page.cursor or "", limit + 1)
        shown = found[:limit]
        return Nodes(
            items=await self._all_shown(shown, tx, clock),
            next=f"{shown[-1].name} {shown[-1].node_id}" if len(found) > limit else None,
        )

    async def get_node(
        self, ask: GetNode, principal: Principal, tx: Transaction, clock: Clock
    ) -> Node | Problem:
        """Return one node, with its last checks."""
        del principal
        server = await reading.find_server(tx, ask.site, ask.node)
        return _no_node(ask.node) if server is None else await self._shown(server, tx, clock)

    async def cordon_node(
        self, ask: CordonNode, principal: Principal, tx: Transaction, clock: Clock
    ) -> Node | Problem:
        """Give the node no new work, and have its replicas taken over elsewhere."""
        del principal
        server = await self._server(ask, tx)
        if isinstance(server, Problem):
            return server
        return await self._turned(ask, tx, clock, server, on_cordoned(server, ask.reason))

    async def drain_node(
        self, ask: DrainNode, principal: Principal, tx: Transaction, clock: Clock
    ) -> Node | Problem:
        """Empty the node: its replicas and jobs go elsewhere, at the deadline those that cannot be preempted, too."""
        del principal
        server = await self._server(ask, tx)
        if isinstance(server, Problem):
            return server
        if server.state == "repairing":
            return _wrong_state(server, "it is empty already")
        now = clock.now()
        await store.drain_by(tx, server.node_id, now + timedelta(seconds=min(ask.grace_s, TIME_MAX_S)))
        node = await self._turned(ask, tx, clock, server, on_draining(server, ask.reason))
        await now_drained(tx, ask, now, server.node_id)
        after = await reading.load_server(tx, server.node_id)
        return node if after is None else await self._shown(after, tx, clock)

    async def return_node(
        self, ask: ReturnNode, principal: Principal, tx: Transaction, clock: Clock
    ) -> Node | Problem:
        """Have a cordoned node checked; it takes work once that check passes."""
        del principal
        server = await self._server(ask, tx)
        if isinstance(server, Problem):
            return server
        if server.state not in {"cordoned", "draining", "repairing"}:
            return _wrong_state(server, "only a node that was cordoned or drained is returned")
        for window in await windows.still(tx, ask.site, [server.node_id]):
            if window.state == "active":
                return _wrong_state(server, f"it is worked on: {why(window).unblock}")
        return await self._checked(ask, tx, clock, server, on_returned(server))

    async def check_node(
        self, ask: CheckNode, principal: Principal, tx: Transaction, clock: Clock
    ) -> Node | Problem:
        """Have the node checked now; it goes on meanwhile, and is cordoned where the check fails."""
        del principal
        server = await self._server(ask, tx)
        if isinstance(server, Problem):
            return server
        return await self._checked(ask, tx, clock, server, on_check_wished(server))

    async def _server(self, ask: A, tx: Transaction) -> Server | Problem:
        await memory.hold(tx, ask.site)
        server = await reading.find_server(tx, ask.site, ask.node)
        if server is None:
            return _no_node(ask.node)
        if server.state in {"enrolled", "lost", "retired"}:
            return _wrong_state(server, "its agent is not there: start it, or see why it is not heard")
        return moved_on("node", server.generation, ask.generation) or server

    async def _checked(self, ask: A, tx: Transaction, clock: Clock, server: Server, to: Turn) -> Node:
        await store.note_asked(tx, server.node_id, to.check_wished)
        return await self._turned(ask, tx, clock, server, to)

    async def _turned(self, ask: A, tx: Transaction, clock: Clock, server: Server, to: Turn) -> Node:
        now = clock.now()
        await turn_node(tx, ask, now, server, to)
        await settle(tx, ask, now, node_ids=[server.node_id])
        after = await reading.load_server(tx, server.node_id)
        assert after is not None, "it was loaded in this transaction"
        return await self._shown(after, tx, clock)

    async def _shown(self, server: Server, tx: Transaction, clock: Clock) -> Node:
        [node] = await self._all_shown([server], tx, clock)
        return node

    async def _all_shown(self, servers: Sequence[Server], tx: Transaction, clock: Clock) -> list[Node]:
        if not servers:
            return []
        still = await windows.still(tx, servers[0].site, [one.node_id for one in servers])
        of_node: dict[str, list[Window]] = {}
        for window in still:
            for node_id in window.nodes:
                of_node.setdefault(node_id, []).append(window)
        return [
            show_node(
                one,
                self._beats.seen_at(one.node_id),
                clock.now(),
                missing_of(one, of_node.get(one.node_id, ())),
            )
            for one in servers
        ]


def _no_node(name: str) -> Problem:
    return Problem(
        title="No such node",
        status=404,
        code="node_not_found",
        detail=f"there is no node {name!r} at this site: GET /api/v1/nodes lists them",
        param="node",
    )


def _wrong_state(server: Server, todo: str) -> Problem:
    return Problem(
        title="Not in this state",
        status=409,
        code="node_state",
        detail=f"{server.name} is {server.state}: {todo}",
        reasons=[{"code": reason.code, "detail": reason.detail} for reason in server.reasons],
    )
