"""Nodes as the engine knows them, and what it has given of them as the tables know it."""

from collections.abc import Sequence

import msgspec
from meshkit.store import Transaction

from placement import memory, reading, sums
from placement.domain.built import spec_of, turned
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import MILLI_PER_GPU
from placement.domain.engine.wish import NodePut
from placement.domain.fleet import Server
from placement.sitememory import Memory
from placement.sums import Devices, Take


async def know(tx: Transaction, server: Server) -> None:
    """Have the engine know a node as it is now, where it does not.

    Where somebody has what is not there any more (a GPU, a rack that was the tenant's own) it is known with
    that until the last of it is given back.
    """
    held = await memory.hold(tx, server.site)
    site = held.engine.site
    held.names[server.node_id] = server.name
    held.late.discard(server.node_id)
    row, turn = site.row_of.get(server.node_id), turned(server)
    spec = spec_of(server)
    if row is None:
        held.apply(NodePut(spec=spec))
        row = site.row_of[server.node_id]
    elif site.specs[row] != spec:
        _put(held, row, server, spec)
    if (turn.closed, turn.silent) != (bool(site.closed[row]), bool(site.silent[row])):
        held.apply(turn)


async def know_late(tx: Transaction, site: str) -> None:
    """Have the engine know nodes as they are that it could not know so before."""
    held = await memory.hold(tx, site)
    if held.late:
        for server in await reading.load_servers(tx, sorted(held.late)):
            await know(tx, server)


def _put(held: Memory, row: int, server: Server, spec: NodeSpec) -> None:
    site, engine = held.engine.site, held.engine
    before = site.specs[row]
    cards = [card for card in range(before.gpus) if card not in before.lost]
    whole = [card for card in cards if card not in before.mig]
    taken = {card: False for card in whole if site.free[row, card] < MILLI_PER_GPU}
    taken |= {card: True for card in before.mig if site.slices[row, card] != site.mig[row, card]}
    known = spec_of(server, taken)
    if known.place != before.place and engine.tenancy.tied(row, known.place):
        known = msgspec.structs.replace(known, place=before.place)
    if known != spec:
        held.late.add(server.node_id)
    if known != before:
        held.apply(NodePut(spec=known))


async def take(tx: Transaction, site: str, takes: Sequence[Take]) -> Devices:
    """Have the tables say, too, what the engine has given; return the devices."""
    held = await memory.hold(tx, site)
    unknown = {one.node_id for one in takes} - held.generations.keys()
    if unknown:
        held.generations |= await reading.generations(tx, sorted(unknown))
    devices = await sums.take(tx, takes, held.generations)
    for one in takes:
        held.moved(one.node_id)
    return devices
