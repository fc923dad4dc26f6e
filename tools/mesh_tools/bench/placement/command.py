"""``mesh bench placement``: allocation by the published protocol, decisions a second, a yardstick; gangs.

With ``--nodes`` and ``--trace`` one run of one list; without, all parts, or those of ``--only``. The engine
is the service's own, by the same entry; what stands beside it is published, or runs here.
"""

import argparse
import gc
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from placement.domain.engine.engine import Engine
from placement.domain.engine.site import NodeSpec

from mesh_tools.bench.placement import gangs, halls, openb, published, table, watts
from mesh_tools.bench.placement.driven import Timed, asked, drive, engine_of
from mesh_tools.bench.placement.endtoend import end_to_end
from mesh_tools.bench.placement.restart import restart
from mesh_tools.bench.placement.yardstick import Fgd, drive_fgd

DATA = Path(__file__).parents[5] / "shared" / "data" / "openb"
NODES = "openb_node_list_gpu_node.csv"
LISTS = ("default", "cpu100", "gpushare40", "gpuspec10", "multigpu20")
SEEDS = range(42, 52)
ARRIVED = 1.3
YARDSTICK_PODS = 300
"""Of so many decisions on a filled site its rate is told: it takes minutes for a whole run."""
NEED_LISTS = ("lists", "power", "speed")
PARTS = (*NEED_LISTS, "gangs", "preemption", "rack", "e2e", "restart")


class Amount(NamedTuple):
    """How much is measured of gangs: of each decision, taken ``times``, the least counts."""

    racks: int = 250
    gangs: int = 2_000
    packed: int = 3_000
    plans: int = 100
    failures: int = 30
    times: int = 3


FULL, QUICK = Amount(), Amount(gangs=300, packed=1_000, plans=20, failures=5)


def main(argv: list[str], *, as_json: bool) -> int:
    """Print the comparison; with ``as_json`` the last line is one object."""
    parser = argparse.ArgumentParser(prog="mesh bench placement")
    parser.add_argument("--nodes", type=Path, help="a list of nodes, in openb's columns")
    parser.add_argument("--trace", type=Path, help="a list of pods, in openb's columns")
    parser.add_argument("--seed", type=int, default=SEEDS[0])
    parser.add_argument("--arrived", type=float, default=ARRIVED, help="GPUs asked for, of all")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of openb's lists")
    parser.add_argument("--quick", action="store_true", help="one seed instead of ten, fewer gangs")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    wanted = parser.parse_args(argv)
    if (wanted.nodes is None) != (wanted.trace is None):
        parser.error("--nodes and --trace go together")
    only = wanted.only.split(",")
    unknown = [name for name in only if name not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}: there are {', '.join(PARTS)}")
    try:
        if wanted.nodes is not None:
            found = one_run(wanted.nodes, wanted.trace, wanted.seed, wanted.arrived)
            table.show_run(found)
        else:
            seeds = list(SEEDS)[: 1 if wanted.quick else None]
            found = everything(wanted.data, seeds, _say, only)
            table.show(found)
    except (OSError, ValueError, KeyError) as fault:
        print(f"mesh bench placement: {fault}", file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps(found))
    return 0


def one_run(nodes: Path, trace: Path, seed: int, arrived: float) -> dict[str, Any]:
    """Return the figures of one list of pods on one list of nodes, by one seed."""
    specs, pods = openb.read_nodes(nodes), openb.read_pods(trace)
    timed, used = _allocate(specs, pods, seed, arrived)
    return {
        "nodes": len(specs),
        "gpus": sum(spec.gpus for spec in specs),
        "seed": seed,
        "arrived": arrived,
        "allocation_pct": round(used, 3),
        "placed": timed.placed,
        "rejected": timed.rejected,
        "decisions_per_s": round(timed.decisions_per_s, 1),
        "p50_ms": round(timed.p50_ms, 3),
        "p99_ms": round(timed.p99_ms, 3),
        "max_ms": round(timed.max_ms, 3),
    }


def everything(
    data: Path, seeds: list[int], say: Callable[[str], None], only: Sequence[str] = PARTS
) -> dict[str, Any]:
    """Return the figures of each part; what needs openb is left out, and said, where its lists are not there."""
    found: dict[str, Any] = {"seeds": seeds}
    needing = [name for name in only if name in NEED_LISTS]
    if needing and not (data / NODES).exists():
        say(
            f"openb's lists are not at {data}: without them there is no {', '.join(needing)} (see --data)"
        )
        needing = []
    if needing:
        specs = openb.read_nodes(data / NODES)
        pods = openb.read_pods(data / "openb_pod_list_default.csv")
    if "lists" in needing:
        found |= _lists(data, specs, seeds, say)
    if "power" in needing:
        say("power ...")
        found["power"] = watts.saving(specs, pods, seeds)
    for gpus in (18_000, 45_000) if "speed" in needing else ():
        say(f"{gpus:,} GPUs to saturation ...")
        found.setdefault("speed", {})[str(gpus)] = speed(gpus, pods, seeds[0])
    for name in only:
        if name not in NEED_LISTS:
            say(f"{name} ...")
            found[name] = _part(name, seeds[0], quick=len(seeds) == 1)
    return found


def _lists(
    data: Path, specs: list[NodeSpec], seeds: list[int], say: Callable[[str], None]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in LISTS:
        say(f"openb {name} ...")
        pods = openb.read_pods(data / f"openb_pod_list_{name}.csv")
        used = [
            _allocate(specs, pods, seed, ARRIVED)[1]
            for seed in (seeds if name == "default" else seeds[:3])
        ]
        found[name] = {
            "allocation_pct": round(statistics.mean(used), 3),
            "seeds": [round(one, 3) for one in used],
            "published_fgd_pct": published.allocation(data, name),
        }
    pods = openb.read_pods(data / "openb_pod_list_default.csv")
    say("the same nodes in another order, under other names ...")
    order = openb.shuffled(specs, seeds[0])
    reordered = round(_allocate(order, pods, seeds[0], ARRIVED)[1], 3)
    return {"lists": found, "reordered_pct": reordered}


def _part(name: str, seed: int, *, quick: bool) -> dict[str, Any]:
    """Return the figures of one part that needs no list."""
    much = QUICK if quick else FULL
    match name:
        case "gangs":
            found = gangs.decisions(much.racks, much.gangs, seed, much.times)
            return found | gangs.packing(much.racks, much.packed, seed)
        case "preemption":
            return gangs.plans(much.racks, much.plans, seed, much.times)
        case "rack":
            return gangs.failed_racks(much.racks, much.failures, seed, much.times)
        case "e2e":
            return end_to_end(asks=1_000) if quick else end_to_end()
        case _:
            return restart(events=50_000, seed=seed) if quick else restart(seed=seed)


def speed(gpus: int, pods: list[openb.Pod], seed: int) -> dict[str, Any]:
    """Return decisions a second of a hall that fills, all constraints on, beside the yardstick's."""
    specs = list(halls.servers(gpus))
    free = [pod._replace(size=halls.anywhere(pod.size)) for pod in pods]
    engine = engine_of(specs, openb.mix_of(free))
    halls.cap_all(engine)
    milli = gpus * 1_000
    given = openb.arrivals(free, seed, milli, 1.05)
    wishes = [asked(number, pod.size, terms=halls.terms(number)) for number, pod in enumerate(given)]
    timed, used = _driven(engine, wishes, milli)
    fgd = Fgd(specs, free)
    theirs, _ = drive_fgd(fgd, given[:YARDSTICK_PODS])
    return {
        **{name: round(value, 3) for name, value in timed._asdict().items()},
        "allocation_pct": round(used, 2),
        "yardstick_per_s": round(theirs.decisions_per_s, 1),
        "ratio": round(timed.decisions_per_s / theirs.decisions_per_s, 1),
    }


def _allocate(
    specs: list[NodeSpec], pods: list[openb.Pod], seed: int, arrived: float
) -> tuple[Timed, float]:
    milli = sum(spec.gpus for spec in specs) * 1_000
    engine = engine_of(specs, openb.mix_of(pods))
    order = openb.arrivals(pods, seed, milli, arrived)
    wishes = [asked(number, pod.size) for number, pod in enumerate(order)]
    used = openb.Allocation(milli)
    timed = _quietly(lambda: drive(engine, wishes, lambda size, done: used.note(size, placed=done)))
    return timed, used.pct(arrived)


def _driven(engine: Engine, wishes: list[Any], milli: int) -> tuple[Timed, float]:
    used = openb.Allocation(milli)
    timed = _quietly(lambda: drive(engine, wishes, lambda size, done: used.note(size, placed=done)))
    return timed, used.last_pct


def _quietly(run: Callable[[], Timed]) -> Timed:
    """Run as the service does: what stands at the start is not looked through for garbage again."""
    gc.collect()
    gc.freeze()
    try:
        return run()
    finally:
        gc.unfreeze()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
