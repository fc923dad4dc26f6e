"""Small sites for tests of gangs, drawn or built, and wishes with few words."""

from collections.abc import Sequence
from itertools import product
from random import Random
from typing import Literal

from placement.domain.engine.engine import Engine
from placement.domain.engine.site import POWER, NodeSpec
from placement.domain.engine.size import Level, Size, Terms
from placement.domain.engine.wish import (
    Asked,
    Capped,
    Near,
    NodePut,
    NodeTurned,
    Outcome,
    Released,
    Wish,
)

GPU_W = 100
TENANTS = ("a", "b")


def wish(workload: str, members: int = 1, **given: object) -> Wish:
    """Return a job's wish of whole GPUs, one a member where nothing else is given."""
    fields: dict[str, object] = {
        "organization": "o",
        "project": "p",
        "kind": "job",
        "size": Size(gpus=1),
    }
    return Wish(workload=workload, members=members, **(fields | given))  # type: ignore[arg-type]


def ask(engine: Engine, wished: Wish, at: int = 0) -> Outcome:
    return engine.apply(Asked(wish=wished, at=at))


def send_away(engine: Engine, workloads: Sequence[str], at: int = 0) -> None:
    """Have workloads hold nothing any more."""
    for workload in workloads:
        engine.apply(Released(workload=workload, at=at))


def racks(count: int, trays: int, *, gpus: int = 4, leaf: int = 2, pdu: int = 2) -> Engine:
    """Return racks that are an NVLink domain each, ``leaf`` of them behind a leaf, ``pdu`` at a PDU."""
    engine = Engine()
    for rack, tray in product(range(count), range(trays)):
        place = {
            "nvlink": f"v{rack}",
            "rack": f"r{rack}",
            "leaf": f"l{rack // leaf}",
            "pdu": f"p{rack // pdu}",
            "row": f"row{rack // (4 * pdu)}",
            "hall": "h0",
        }
        spec = NodeSpec(
            node=f"n{rack:03}-{tray:02}",
            gpus=gpus,
            cpu_milli=144_000,
            memory_mib=900_000,
            place=place,
            idle_w=GPU_W,
            gpu_w=GPU_W,
        )
        engine.apply(NodePut(spec=spec))
    return engine


def site(
    chance: Random,
    *,
    crossing: bool = False,
    alike: bool = True,
    short: bool = False,
    before: tuple[int, int] = (0, 3),
) -> Engine:
    """Return up to six nodes in up to four racks, some of it taken, some closed, some of it capped.

    NVLink domains are part of a rack or some racks of a PDU, unless ``crossing``; GPUs of a rack draw
    alike, and all of the site where it is ``alike``. Where watts are ``short``, little else is.
    ``before`` says how many ask before.
    """
    engine = Engine()
    rack_count = chance.randint(3, 4) if short else chance.randint(1, 4)
    nvlink_of = [chance.randrange(2) for _ in range(rack_count)]
    watts = [chance.choice((GPU_W, 2 * GPU_W)) for _ in range(3)]
    inside = chance.random() < 0.5
    for number in range(chance.randint(3, 6)):
        rack = chance.randrange(rack_count)
        place = {
            "rack": f"r{rack}",
            "pdu": f"p{rack // 2}",
            "hall": "h",
            "leaf": f"l{chance.randrange(2)}",
        }
        place["nvlink"] = (
            f"v{rack}-{chance.randrange(2)}" if inside else f"v{rack // 2}-{nvlink_of[rack]}"
        )
        if crossing:
            place["nvlink"] = f"v{chance.randrange(3)}"
        for level in ("leaf", "nvlink"):
            if chance.random() < 0.12:
                del place[level]
        spec = NodeSpec(
            node=f"n{number}",
            gpus=chance.choice((2, 4, 3) if short else (2, 4, 1, 0)),
            cpu_milli=chance.choice((2_000, 8_000)),
            memory_mib=8_000,
            slots=chance.choice((2, 8)),
            place=place,
            idle_w=10,
            gpu_w=GPU_W if alike else watts[rack % 3 if inside else nvlink_of[rack]],
        )
        engine.apply(NodePut(spec=spec))
    for number in range(chance.randint(*before)):
        ask(engine, drawn_wish(chance, f"before{number}", most=2), at=number)
    for node in list(engine.site.row_of):
        if chance.random() < 0.08:
            engine.apply(NodeTurned(node=node, closed=True))
    _cap(engine, chance, ("pdu", "rack") if short else chance.sample(POWER, chance.randrange(4)))
    return engine


def _cap(engine: Engine, chance: Random, levels: Sequence[str]) -> None:
    """Leave each domain of these levels watts for a few GPUs more, or none, or less."""
    for level in levels:
        for domain in list(engine.site.domains[level]):
            planned = int(engine.power.planned[level][engine.site.domains[level][domain]])
            more = chance.choice((4, 3, 2, 6, 1, 0, -1)) * GPU_W
            engine.apply(Capped(level=level, domain=domain, watts=max(0, planned + more)))


SIZES = (Size(gpus=1), Size(gpus=1), Size(gpus=2), Size(cpu_milli=1_500), Size(gpus=1, cpu_milli=2_000))
SHARES = (Size(gpu_milli=400), Size(gpu_milli=1_000))
LEVELS: tuple[Level | Literal[""], ...] = ("", "", "node", "nvlink", "rack", "leaf", "pdu", "site")
ALONE: tuple[Literal["", "node", "nvlink", "rack"], ...] = ("", "", "", "", "node", "nvlink", "rack")


def drawn_wish(
    chance: Random,
    workload: str,
    *,
    least: int = 1,
    most: int = 6,
    shares: bool = True,
    **fields: object,
) -> Wish:
    """Return a wish of up to ``most`` members, of any sort of size, terms and nearness."""
    level, required = chance.choice(LEVELS), chance.random() < 0.5
    near = Near(level=level, required=required, segment=chance.choice((1, 1, 2, 3)))
    return wish(
        workload,
        chance.randint(least, most),
        size=chance.choice(SIZES + SHARES if shares else SIZES),
        near=near,
        terms=Terms(tenant=chance.choice(TENANTS), isolation=chance.choice(ALONE)),
        **fields,
    )
