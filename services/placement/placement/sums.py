"""What is taken of each node and device: the second statement of the rule, in the tables."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from meshkit.errors import StaleSnapshot
from meshkit.store import Transaction

from placement.domain.engine.wish import Seat
from placement.domain.fleet import Held

_TAKE = """
WITH nodes AS (
    UPDATE node SET memory_taken_mib = memory_taken_mib + wanted.memory_mib,
        cpu_taken_milli = cpu_taken_milli + wanted.cpu_milli,
        generation = node.generation + wanted.times
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
        AS wanted (node_id, generation, memory_mib, cpu_milli, times)
    WHERE node.node_id = wanted.node_id AND node.generation = wanted.generation
        AND memory_taken_mib + wanted.memory_mib <= node.memory_mib
        AND (cpu_taken_milli + wanted.cpu_milli <= node.cpus * 1000 OR wanted.cpu_milli = 0)
    RETURNING node.node_id
), devices AS (
    UPDATE device SET taken_milli = taken_milli + wanted.milli, taken_slices = taken_slices | wanted.slices,
        slices_held = slices_held + wanted.many
    FROM unnest($6::text[], $7::integer[], $8::integer[], $9::integer[], $10::integer[])
        AS wanted (node_id, card, milli, slices, many)
    WHERE device.node_id = wanted.node_id AND device.card = wanted.card AND present
    RETURNING device.node_id, device.card, device_id
)
SELECT node_id, NULL AS card, NULL AS device_id FROM nodes
UNION ALL SELECT node_id, card, device_id FROM devices
"""


class Take(NamedTuple):
    """What one member takes of its node: memory, so many milli of each of its cards (or slices of one), CPU."""

    node_id: str
    memory_mib: int
    cards: tuple[int, ...]
    milli_each: int
    cpu_milli: int = 0
    slices: int = 0


Devices = dict[tuple[str, int], str]
"""Device ids by node and position."""


async def take(tx: Transaction, takes: Sequence[Take], generations: dict[str, int]) -> Devices:
    """Take it, provided that each node is still at its generation, which rises once a member.

    Raises ``StaleSnapshot`` where one is not, or has not so much, or a device is gone;
    ``CheckViolationError`` where a device has not so much, or one of its slices is taken: then the engine and the tables differ.
    """
    memory: Counter[str] = Counter()
    cpu: Counter[str] = Counter()
    times = Counter(one.node_id for one in takes)
    milli: Counter[tuple[str, int]] = Counter()
    slices: Counter[tuple[str, int]] = Counter()
    many: Counter[tuple[str, int]] = Counter()
    for one in takes:
        memory[one.node_id] += one.memory_mib
        cpu[one.node_id] += one.cpu_milli
        for card in one.cards:
            place = (one.node_id, card)
            milli[place] += one.milli_each
            slices[place] |= one.slices
            many[place] += one.slices.bit_count()
    nodes, places = sorted(times), sorted(milli)
    rows = await tx.rows(
        _TAKE,
        *(nodes, [generations[node_id] for node_id in nodes]),
        *([memory[node_id] for node_id in nodes], [cpu[node_id] for node_id in nodes]),
        [times[node_id] for node_id in nodes],
        *([node_id for node_id, _ in places], [card for _, card in places]),
        *([milli[place] for place in places], [slices[place] for place in places]),
        [many[place] for place in places],
    )
    devices = {
        (row["node_id"], row["card"]): row["device_id"] for row in rows if row["card"] is not None
    }
    if len(devices) < len(places) or len(rows) - len(devices) < len(nodes):
        raise StaleSnapshot(", ".join(nodes))
    return devices


def held_of(node_id: str, seat: Seat, devices: Devices) -> tuple[Held, ...]:
    """Return what a member holds of the devices of its node."""
    return tuple(Held(devices[node_id, card], seat.milli_each, seat.slices) for card in seat.cards)


async def give_back(tx: Transaction, given: Sequence[tuple[str, Held]]) -> None:
    """Have what was held of devices, each named with its node, be free."""
    milli: Counter[tuple[str, str]] = Counter()
    slices: Counter[tuple[str, str]] = Counter()
    many: Counter[tuple[str, str]] = Counter()
    for node_id, held in given:
        place = (node_id, held.device_id)
        milli[place] += held.milli
        slices[place] |= held.slices
        many[place] += held.slices.bit_count()
    if not milli:
        return
    places = sorted(milli)
    await tx.change(
        "UPDATE device SET taken_milli = taken_milli - given.milli, taken_slices = taken_slices & ~given.slices,"
        " slices_held = slices_held - given.many"
        " FROM unnest($1::text[], $2::text[], $3::integer[], $4::integer[], $5::integer[])"
        "  AS given (node_id, device_id, milli, slices, many)"
        " WHERE device.node_id = given.node_id AND device.device_id = given.device_id",
        *([node_id for node_id, _ in places], [device_id for _, device_id in places]),
        *([milli[place] for place in places], [slices[place] for place in places]),
        [many[place] for place in places],
    )
