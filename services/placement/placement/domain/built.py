"""A server and its workloads as the engine knows them."""

from collections.abc import Mapping, Sequence

import msgspec

from placement.domain.engine.mix import CARDS_MAX
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.wish import Found, Input, NodePut, NodeTurned, Seat, Wish
from placement.domain.fleet import MILLI_PER_GPU, WORKLOADS_PER_NODE_MAX, Held, Placed, Server, Wanted
from placement.domain.members import Member
from placement.domain.wishes import milliseconds, wish_of

MILLI_PER_CPU = 1_000


def spec_of(server: Server, held: Mapping[int, bool] | None = None) -> NodeSpec:
    """Return a node as it is built: its devices at their positions, the first ``CARDS_MAX`` of them.

    A node with GPUs of several models is of none that could be asked for: it takes only what will run on any.
    ``held`` are positions that somebody holds, and whether they are held in instances: they are there, in that mode,
    until that one has ended, also where the device is gone or its mode is another by now.
    """
    cards = {card.card: card.mig for card in server.cards if card.card < CARDS_MAX} | dict(held or {})
    positions = max(cards, default=-1) + 1
    models = sorted({card.model for card in server.cards})
    return NodeSpec(
        node=server.node_id,
        model=" + ".join(models),
        gpus=positions,
        lost=tuple(card for card in range(positions) if card not in cards),
        mig=tuple(sorted(card for card, mig in cards.items() if mig)),
        cpu_milli=server.cpus * MILLI_PER_CPU,
        memory_mib=server.memory_mib,
        jurisdiction=server.jurisdiction,
        assurances=server.assurances,
        place=server.place,
        idle_w=server.idle_w,
        gpu_w=server.gpu_w,
        slots=WORKLOADS_PER_NODE_MAX,
    )


def turned(server: Server) -> NodeTurned:
    """Return whether a node takes new members, and whether it is heard."""
    return NodeTurned(node=server.node_id, closed=server.state != "ready", silent=server.silent)


def built_of(server: Server) -> list[Input]:
    """Return what makes the engine know a server that it has never heard of."""
    held = {card.card: bool(card.slices) for card in server.cards if not card.idle}
    return [NodePut(spec=spec_of(server, held)), turned(server)]


def found(wanted: Wanted, item: Placed, server: Server) -> Found:
    """Return a workload that sits on its devices already."""
    positions = {card.device_id: card.card for card in server.cards}
    taken = {(held.milli, held.slices) for held in item.devices}
    assert len(taken) <= 1, "a workload takes as much of each of its devices"
    milli, slices = taken.pop() if taken else (0, 0)
    seat = Seat(
        node=item.node_id,
        cards=tuple(sorted(positions[held.device_id] for held in item.devices)),
        milli_each=milli,
        slices=slices,
    )
    wish = wish_of(wanted, item.workload_id)
    assert wish.size.cards == len(seat.cards)
    assert not seat.cards or seat.milli_each in {wish.size.milli_each, MILLI_PER_GPU}
    return Found(wish=wish, seats=(seat,), at=milliseconds(item.created_at))


def found_members(wish: Wish, members: Sequence[Member], servers: Mapping[str, Server]) -> Found:
    """Return a job or a lease whose members sit on their devices already."""
    seats = []
    for member in sorted(members, key=lambda one: one.number):
        positions = {card.device_id: card.card for card in servers[member.node_id].cards}
        cards = sorted(positions[one.device_id] for one in member.devices if one.device_id in positions)
        each = member.devices[0] if member.devices else Held("", 0)
        seats.append(Seat(member.node_id, tuple(cards), each.milli, each.slices))
    at = min(member.created_at for member in members)
    wish = msgspec.structs.replace(wish, members=len(seats))
    return Found(wish=wish, seats=tuple(seats), at=milliseconds(at))
