"""The published protocol of openb, a trace of a production GPU cluster, and its answers.

Weng et al., "Beware of Fragmentation" (USENIX ATC 2023): nodes by name; the trace's pods in a random
order, with others drawn from it until so much has arrived; one after the other, refused for good
where none fits, none ever leaves. GPU allocation is what is used at that arrival, of all GPUs.
"""

import csv
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import MILLI_PER_GPU, Size

WATTS = {
    "T4": (10, 70),
    "A10": (30, 150),
    "P100": (25, 250),
    "V100M16": (30, 300),
    "V100M32": (30, 300),
    "G2": (30, 150),
    "G3": (50, 400),
}
"""Idle and full watts of a GPU (PWR, CCGrid 2025, arXiv 2412.17484). The trace hides the names of two
models: G2 is counted as A10, G3 as A100.
"""


class Pod(NamedTuple):
    """One line of a trace: its name, and what it asks for."""

    name: str
    size: Size


def read_nodes(path: Path) -> list[NodeSpec]:
    """Return the nodes of a list, by name. Raises ``ValueError`` that names the line at fault."""
    return [
        NodeSpec(
            node=line["sn"],
            model=line["model"],
            gpus=int(line["gpu"]),
            cpu_milli=int(line["cpu_milli"]),
            memory_mib=int(line["memory_mib"]),
            slots=1_000,
            idle_w=int(line["gpu"]) * WATTS.get(line["model"], (0, 0))[0],
            gpu_w=max(0, WATTS.get(line["model"], (0, 0))[1] - WATTS.get(line["model"], (0, 0))[0]),
        )
        for line in sorted(_lines(path, "sn"), key=lambda line: line["sn"])
    ]


def read_pods(path: Path) -> list[Pod]:
    """Return the pods of a trace, by name. Raises ``ValueError`` that names the line at fault."""
    return [
        Pod(line["name"], _size(line))
        for line in sorted(_lines(path, "name"), key=lambda line: line["name"])
    ]


def _lines(path: Path, key: str) -> Iterator[dict[str, Any]]:
    with path.open(newline="") as opened:
        for number, line in enumerate(csv.DictReader(opened), 2):
            if not line.get(key):
                raise ValueError(f"{path.name}, line {number}: no column {key}")
            yield line


def _size(line: dict[str, Any]) -> Size:
    gpus = int(line["num_gpu"])
    milli = min(int(line["gpu_milli"] or 0), MILLI_PER_GPU) if gpus else 0
    whole = gpus if milli == MILLI_PER_GPU else 0
    models = tuple(sorted(name for name in (line.get("gpu_spec") or "").split("|") if name))
    return Size(
        gpus=whole,
        gpu_milli=0 if whole else milli,
        cpu_milli=int(line["cpu_milli"]),
        memory_mib=int(line["memory_mib"]),
        models=models,
    )


def arrivals(pods: Sequence[Pod], seed: int, milli: int, arrived: float) -> list[Pod]:
    """Return the pods in the order of one seed, until ``arrived`` times ``milli`` of GPU were asked for."""
    chance = random.Random(seed)  # noqa: S311 - it has to be repeatable
    order = list(pods)
    chance.shuffle(order)
    wanted = arrived * milli
    asked = sum(pod.size.milli for pod in order)
    while asked > wanted:
        asked -= order.pop().size.milli
    while True:
        pod = chance.choice(pods)
        asked += pod.size.milli
        if asked > wanted:
            return order
        order.append(pod)


def mix_of(pods: Iterable[Pod]) -> list[tuple[Size, int]]:
    """Return how often each size is asked for, in the order they are first met."""
    return list(Counter(pod.size for pod in pods).items())


class Allocation:
    """What is used, by what has arrived: the protocol's own sums."""

    def __init__(self, milli: int) -> None:
        self._milli = milli
        self._asked = self._used = 0
        self._at: dict[int, list[int]] = {}

    def note(self, size: Size, *, placed: bool) -> None:
        """Count one answer."""
        self._asked += size.milli
        self._used += size.milli if placed else 0
        self._at.setdefault(round(100 * self._asked / self._milli), []).append(self._used)

    def pct(self, arrived: float) -> float:
        """Return the mean percentage of GPUs in use while that share had arrived."""
        used = self._at.get(round(100 * arrived)) or [self._used]
        return 100 * sum(used) / len(used) / self._milli

    @property
    def last_pct(self) -> float:
        """Return the percentage of GPUs in use at the end."""
        return 100 * self._used / self._milli


def shuffled(specs: Sequence[NodeSpec], seed: int) -> list[NodeSpec]:
    """Return the same nodes in another order, under other names."""
    chance = random.Random(seed)  # noqa: S311 - it has to be repeatable
    order = list(specs)
    chance.shuffle(order)
    return [
        msgspec.structs.replace(spec, node=f"renamed-{number:05d}") for number, spec in enumerate(order)
    ]
