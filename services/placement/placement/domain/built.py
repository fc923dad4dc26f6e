"""A server and its workloads as the engine knows them."""

from datetime import datetime

from placement.domain.decide import WORKLOADS_PER_NODE_MAX, wish_of
from placement.domain.engine.mix import CARDS_MAX
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.wish import Found, Input, NodePut, NodeTurned, Seat
from placement.domain.fleet import MILLI_PER_GPU, Placed, Server, Wanted

MILLI_PER_CPU = 1_000


def spec_of(server: Server) -> NodeSpec:
    """Return a node as it is built: its devices at their positions, the first ``CARDS_MAX`` of them.

    A node with GPUs of several models is of none that could be asked for: it takes only what will run on any.
    """
    cards = {card.card for card in server.cards if card.card < CARDS_MAX}
    positions = max(cards, default=-1) + 1
    models = sorted({card.model for card in server.cards})
    return NodeSpec(
        node=server.node_id,
        model=" + ".join(models),
        gpus=positions,
        lost=tuple(card for card in range(positions) if card not in cards),
        cpu_milli=server.cpus * MILLI_PER_CPU,
        memory_mib=server.memory_mib,
        jurisdiction=server.jurisdiction,
        slots=WORKLOADS_PER_NODE_MAX,
    )


def turned(server: Server) -> NodeTurned:
    """Return whether a node takes new members, and whether it is heard."""
    return NodeTurned(node=server.node_id, closed=server.state != "ready", silent=server.silent)


def built_of(server: Server) -> list[Input]:
    """Return what makes the engine know a server."""
    return [NodePut(spec=spec_of(server)), turned(server)]


def found(wanted: Wanted, item: Placed, server: Server) -> Found:
    """Return a workload that sits on its devices already."""
    positions = {card.device_id: card.card for card in server.cards}
    milli = {held.milli for held in item.devices}
    assert len(milli) <= 1, "a workload takes as much of each of its devices"
    seat = Seat(
        node=item.node_id,
        cards=tuple(sorted(positions[held.device_id] for held in item.devices)),
        milli_each=milli.pop() if milli else 0,
    )
    wish = wish_of(wanted, item.workload_id)
    assert wish.size.cards == len(seat.cards)
    assert not seat.cards or seat.milli_each in {wish.size.milli_each, MILLI_PER_GPU}
    return Found(wish=wish, seats=(seat,), at=milliseconds(item.created_at))


def milliseconds(at: datetime) -> int:
    """Return a moment as the engine counts time."""
    return int(at.timestamp() * 1_000)
