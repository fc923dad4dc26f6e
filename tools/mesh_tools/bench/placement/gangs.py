"""Gangs that come and go in a hall of NVL72 racks: how long decisions take, how full it is, who makes way.

Each function is a measurement of its own: a size and a seed in, figures out. Nothing is special to it: the
engine hears what the service tells it, and answers with its explanation.
"""

import gc
import heapq
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random
from typing import Any, NamedTuple

from placement.domain.engine.engine import Engine
from placement.domain.engine.preempt import plan
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.wish import Asked, Near, NodesLost, Placed, Released, Reseated, Wish

from mesh_tools.bench.placement import halls
from mesh_tools.bench.placement.driven import engine_of, timed

GANGS = (
    *((8, 128), (16, 64), (32, 32), (64, 16), (72, 14)),
    *((128, 8), (256, 4), (512, 2), (1_024, 1)),
)
"""GPUs of a gang, and how often it is drawn: gangs of each size ask for as much of the hall."""
SEGMENTS = ((256, 16), (64, 4), (0, 1))
"""From how many GPUs on how many trays in a row share an NVLink domain."""
OFFERED = 2.0
"""What a stream asks for, of the hall: it stays full, and who does not fit is turned away."""
TENANTS = 40


class Week(NamedTuple):
    """What became of a stream: how full the hall was on average (thousandths), and who had seats."""

    used_permille: int
    placed: int
    refused: int


class Step(NamedTuple):
    """One gang that was asked for: nanoseconds, whether it has seats, or some of them; trays in use then."""

    ns: int
    placed: bool
    partial: bool
    used: int


def hall(racks: int) -> Engine:
    """Return an engine that knows so many racks, each level with a cap just above what it draws when full."""
    engine = engine_of(halls.trays(racks), [])
    halls.cap_all(engine)
    return engine


def gang(workload: str, gpus: int, **given: Any) -> Wish:
    """Return the wish of a gang on whole trays, in the segments that gangs of its size have."""
    segment = next(trays for least, trays in SEGMENTS if gpus >= least)
    fields: dict[str, Any] = {
        "size": Size(gpus=halls.TRAY_GPUS),
        "near": Near(level="leaf", segment=segment),
    }
    members = gpus // halls.TRAY_GPUS
    return Wish(
        workload=workload,
        organization="o",
        project="p",
        kind="job",
        members=members,
        **(fields | given),
    )


def drawn(chance: Random, number: int, gpus: int) -> Wish:
    """Return a gang with all that a wish can ask for: class, cost, tenant, certificates, a part of its own."""
    terms = Terms(
        jurisdictions=("FR",),
        assurances=chance.choice(((), ("hds",))),
        tenant=f"tenant-{chance.randrange(TENANTS)}",
        isolation=chance.choice(("", "", "", "", "", "", "", "", "node", "nvlink")),
    )
    return gang(
        f"gang{number}",
        gpus,
        terms=terms,
        priority=chance.randrange(3),
        preemptible=chance.random() < 0.8,
        restart_cost=chance.randrange(1, 100) * gpus,
        elastic=chance.random() < 0.5,
    )


def saturate(
    racks: int, gangs: int, seed: int, *, blind: bool = False, offered: float = OFFERED
) -> Week:
    """Send gangs for more than there is, and return how full the hall was in the second half.

    One comes at a time. ``blind`` sends the same stream without any wish to be near.
    """
    engine, chance = hall(racks), _chance(seed)
    whole = engine.site.rows
    known = [(gpus, often) for gpus, often in GANGS if 4 * gpus <= whole * halls.TRAY_GPUS]
    sizes = [gpus for gpus, often in known for _ in range(often)]
    stay = int(whole * halls.TRAY_GPUS * offered * len(sizes) / sum(sizes))
    ends: list[tuple[int, str, int]] = []
    used = area = placed = 0
    for now in range(gangs):
        while ends and ends[0][0] <= now:
            _, workload, members = heapq.heappop(ends)
            engine.apply(Released(workload=workload, at=now))
            used -= members
        wish = gang(f"gang{now}", chance.choice(sizes), **({"near": Near()} if blind else {}))
        end = now + 1 + chance.randrange(2 * stay)
        if isinstance(engine.apply(Asked(wish=wish, at=now)), Placed):
            heapq.heappush(ends, (end, wish.workload, wish.members))
            used += wish.members
            placed += 1
        if 2 * now >= gangs:
            area += used
    return Week(area * 1_000 // (whole * (gangs - (gangs + 1) // 2)), placed, gangs - placed)


def decisions(racks: int, gangs: int, seed: int, times: int = 1) -> dict[str, Any]:
    """Return how long decisions about gangs of 8 to 1,024 GPUs take in a hall that is kept full.

    Of the same stream, sent several times, each decision's least time counts: the others are the machine's.
    """
    runs = [list(_stream(hall(racks), gangs, seed)) for _ in range(times)]
    took = [min(one.ns for one in same) for same in zip(*runs, strict=True)]
    placed = sum(one.placed for one in runs[0])
    used = max(one.used for one in runs[0])
    return {
        **_figures(took, placed),
        "used": round(used / (racks * halls.TRAYS_PER_RACK), 3),
        "partial": sum(one.partial for one in runs[0]),
    }


def packing(racks: int, gangs: int, seed: int) -> dict[str, Any]:
    """Return how full a hall is that gangs are near to themselves in, and with the same ones anywhere."""
    near, blind = (saturate(racks, gangs, seed, blind=one) for one in (False, True))
    return {"used_permille": near.used_permille, "blind_permille": blind.used_permille}


def plans(racks: int, count: int, seed: int, times: int = 1) -> dict[str, Any]:
    """Return how long it takes to find whom to preempt for gangs of 8 to 1,024 GPUs in a full hall."""
    engine, chance = hall(racks), _chance(seed)
    _fill(engine, chance)
    took, found, victims = [], 0, 0
    for number in range(count):
        gpus = chance.choice([gpus for gpus, _ in GANGS])
        near = {"near": Near(level="nvlink", required=True)} if gpus <= 72 and number % 3 == 0 else {}
        wish = gang(f"high{number}", gpus, priority=3, terms=Terms(tenant="high"), **near)
        took.append(_least([partial(plan, engine, wish, None, number)] * times))
        answer = plan(engine, wish, None, number)
        found += answer is not None
        victims += len(answer.victims) if answer else 0
        if answer and number % 4 == 0:
            for victim in answer.victims:
                engine.apply(Released(workload=victim, at=number))
            engine.apply(Asked(wish=wish, at=number))
            engine.apply(Released(workload=wish.workload, at=number))
            _fill(engine, chance, first=1_000_000 + 1_000 * number, misses=20)
    return {**_figures(took, found), "victims": victims, "holdings": len(engine.holdings)}


def failed_racks(racks: int, count: int, seed: int, times: int = 1) -> dict[str, Any]:
    """Return how long it takes to decide about all who were in a rack that failed, a tenth of the hall free."""
    engine, chance = hall(racks), _chance(seed)
    _fill(engine, chance, upto=0.9, most=64)
    took, moved, hit = [], 0, 0
    for _ in range(count):
        rack = chance.randrange(racks)
        nodes = tuple(f"tray-{rack:03d}-{tray:02d}" for tray in range(halls.TRAYS_PER_RACK))
        copies = [engine.copy() for _ in range(times)]
        lost = NodesLost(nodes=nodes, at=1)
        took.append(_least([partial(one.apply, lost) for one in copies]))
        outcome: Any = engine.copy().apply(lost)
        moved += sum(isinstance(one, Reseated) for one in outcome.outcomes)
        hit += len(outcome.outcomes)
    return {**_figures(took, count), "workloads": hit, "replaced": moved}


def _stream(engine: Engine, gangs: int, seed: int) -> Iterator[Step]:
    """Yield what became of each gang that is asked for."""
    chance, live, used = _chance(seed), list[tuple[str, int]](), 0
    for near in (
        Near(segment=16),
        Near(level="leaf"),
        Near(level="nvlink"),
        Near(level="nvlink", required=True),
    ):
        # What is first asked for of a site is computed once.
        engine.apply(Asked(wish=gang("first", 1_024, near=near), at=0))
        engine.apply(Released(workload="first", at=0))
    gc.collect()
    gc.freeze()
    for number in range(gangs):
        wish = drawn(chance, number, chance.choice([gpus for gpus, _ in GANGS]))
        began = time.perf_counter_ns()
        outcome = engine.apply(Asked(wish=wish, at=number))
        took = time.perf_counter_ns() - began
        done = isinstance(outcome, Placed)
        if done:
            live.append((wish.workload, wish.members))
            used += wish.members
        partial = int(engine.site.taken.sum()) != used * halls.TRAY_GPUS
        ending = 0 if done and chance.random() < 0.9 else chance.randrange(1, 3)
        for _ in range(min(ending, len(live))):
            workload, members = live.pop(chance.randrange(len(live)))
            engine.apply(Released(workload=workload, at=number))
            used -= members
        yield Step(took, done, partial, used)
    gc.unfreeze()


def _fill(
    engine: Engine,
    chance: Random,
    *,
    upto: float = 1.0,
    most: int = 1_024,
    first: int = 0,
    misses: int = 200,
) -> None:
    """Seat gangs until the hall is as full, or so many in a row had no seats."""
    missed, number = 0, first
    sizes = [gpus for gpus, _ in GANGS if gpus <= most]
    trays = engine.site.rows
    while missed < misses and engine.site.taken.sum() < upto * trays * halls.TRAY_GPUS:
        placed = isinstance(
            engine.apply(Asked(wish=drawn(chance, number, chance.choice(sizes)), at=0)), Placed
        )
        missed = 0 if placed else missed + 1
        number += 1


def _chance(seed: int) -> Random:
    return Random(seed)  # noqa: S311 it has to be repeatable


def _least(runs: Sequence[Callable[[], object]]) -> int:
    """Return the nanoseconds of the fastest."""
    took = []
    for run in runs:
        began = time.perf_counter_ns()
        run()
        took.append(time.perf_counter_ns() - began)
    return min(took)


def _figures(took: list[int], placed: int) -> dict[str, Any]:
    return {name: round(value, 3) for name, value in timed(took, placed)._asdict().items()}
