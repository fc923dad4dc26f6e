"""What happens to a simulated hall, from one seed: who asks for what, for how long it runs, what breaks.

Failures, a GPU-hour each, from what is published:

- A GPU at fault: Llama 3 405B, 16,384 H100 for 54 days (21.2 million GPU-hours): 268 of 419 unexpected
  interruptions are told as a GPU's own (faulty GPU 148, HBM3 72, SRAM 19, GSP 17, silent corruption 6, thermal
  6): one in 79,000 GPU-hours.
- A node lost: the other 151 of these 419 (hosts, network, power, and what was not told apart): one in
  141,000 GPU-hours.
- A member that fails by itself: Meta's RSC clusters (arXiv 2410.21680) had one interruption of a job in 8
  hours at 1,024 GPUs, one in 8,200 GPU-hours; what the two above leave of it: one in 9,800.

How long a repair takes is not published with them: chosen, log-normal, one hour in the middle.
Durations are log-normal, too (two hours in the middle, few of them days), gaps between arrivals exponential.
Without a trace, sizes are those of ``SIZES``: chosen, not measured; most ask for little, most GPUs go to the large.
"""

import csv
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from mesh_contracts.placement import Near, Resources

HOUR_S = 3_600
OBSERVED_GPU_H = 16_384 * 54 * 24
GPU_FAULTS_A_GPU_H = 268 / OBSERVED_GPU_H
NODE_LOSSES_A_GPU_H = 151 / OBSERVED_GPU_H
MEMBER_FAILURES_A_GPU_H = 1 / (1_024 * 8) - GPU_FAULTS_A_GPU_H - NODE_LOSSES_A_GPU_H

RUN_S, RUN_SPREAD, RUN_MAX_S = 2 * HOUR_S, 1.0, 7 * 24 * HOUR_S
REPAIR_S, REPAIR_SPREAD = HOUR_S, 0.7
SIZES: tuple[tuple[int, int], ...] = (
    (250, 10),
    (500, 10),
    (1_000, 40),
    (2_000, 15),
    (4_000, 10),
    (8_000, 15),
)
"""Thousandths of GPUs on one node, and how many of a hundred ask for them."""
GANGS: tuple[tuple[int, int], ...] = ((1, 30), (2, 25), (4, 20), (8, 12), (16, 8), (32, 3), (64, 2))
"""Whole servers of a gang, and how many of a hundred gangs have so many."""
SERVER_GPUS = 8
MILLI = 1_000
CPU_MILLI_A_GPU, MEMORY_MIB_A_GPU = 12_000, 65_536
NAMES = ("FR", "DE")

Fault = Literal["gpu", "node", "member"]
T = TypeVar("T")


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """One job: when it is asked for (simulated seconds; before 0: it is there at the start), and what it is."""

    at_s: float
    number: int
    members: int
    resources: Resources
    run_s: float
    near: Near
    jurisdictions: list[str]
    priority: int
    bounded: bool

    @property
    def name(self) -> str:
        """What it is called; nothing else is."""
        return f"job-{self.number}"

    @property
    def milli(self) -> int:
        """Thousandths of GPUs that all of it asks for."""
        each = self.resources.gpus * MILLI or self.resources.gpu_milli
        return self.members * each


class Plan:
    """Draws what is asked for. ``gang_share`` is the part of all GPU-time that gangs ask for."""

    def __init__(
        self,
        seed: int,
        gpus: int,
        load: float,
        *,
        sizes: Sequence[tuple[Resources, int]],
        gang_share: float,
    ) -> None:
        self._chance = random.Random(f"{seed}/arrivals")  # noqa: S311 - it has to be repeatable
        self._gpus, self._load = gpus, load
        self._sizes = sizes
        # Whole gangs come in these numbers; one that would take more than a quarter of the site does not.
        self._gangs = [one for one in GANGS if one[0] * SERVER_GPUS * 4 <= gpus] or [GANGS[0]]
        single = _mean([(_milli(each), weight) for each, weight in sizes])
        gang = _mean(self._gangs) * SERVER_GPUS * MILLI
        self._gang_odds = gang_share / gang / (gang_share / gang + (1 - gang_share) / single)
        self._mean_milli = self._gang_odds * gang + (1 - self._gang_odds) * single
        self._number = 0

    def there(self) -> Iterator[Arrival]:
        """Yield what fills the site to its load when it begins: jobs found at work, with the rest of their time."""
        left = self._load * self._gpus * MILLI
        while left > 0:
            # Who looks in at any time finds more of the long ones.
            run_s = self._run_s(math.log(RUN_S) + RUN_SPREAD**2) * self._chance.random()
            one = self._draw(-1.0, max(60.0, run_s))
            left -= one.milli
            yield one

    def arrivals(self) -> Iterator[Arrival]:
        """Yield who comes from then on, for ever."""
        mean_run_s = RUN_S * math.exp(RUN_SPREAD**2 / 2)
        gap_s = self._mean_milli * mean_run_s / (self._load * self._gpus * MILLI)
        at_s = 0.0
        while True:
            at_s += self._chance.expovariate(1 / gap_s)
            yield self._draw(at_s, self._run_s(math.log(RUN_S)))

    def _run_s(self, middle: float) -> float:
        return min(RUN_MAX_S, self._chance.lognormvariate(middle, RUN_SPREAD))

    def _draw(self, at_s: float, run_s: float) -> Arrival:
        chance, self._number = self._chance, self._number + 1
        members, near = 1, Near()
        if chance.random() < self._gang_odds:
            members = _one_of(chance, self._gangs)
            resources = _whole(SERVER_GPUS)
            if members > 1 and chance.random() < 0.5:
                near = Near(level="leaf", required=members <= 8)
        else:
            resources = _one_of(chance, self._sizes)
        return Arrival(
            at_s=at_s,
            number=self._number,
            members=members,
            resources=resources,
            run_s=run_s,
            near=near,
            jurisdictions=list(NAMES) if chance.random() < 0.3 else [NAMES[0]],
            priority=chance.choices((0, 100), (85, 15))[0],
            bounded=chance.random() < 0.5,
        )


class Faults:
    """Draws what breaks: when, in simulated seconds, and of which kind; and how long a repair takes."""

    def __init__(self, seed: int, gpus: int, times: float) -> None:
        # Of their own: when things break stays the same, however often it was asked whom it befell.
        self._times, self._chance = (random.Random(f"{seed}/{of}") for of in ("faults", "befallen"))  # noqa: S311
        self._rates: tuple[tuple[Fault, float], ...] = (
            ("gpu", GPU_FAULTS_A_GPU_H * gpus * times / HOUR_S),
            ("node", NODE_LOSSES_A_GPU_H * gpus * times / HOUR_S),
            ("member", MEMBER_FAILURES_A_GPU_H * gpus * times / HOUR_S),
        )

    def all(self) -> Iterator[tuple[float, Fault]]:
        """Yield what breaks, for ever, in order; nothing where nothing ever does."""
        total = sum(rate for _, rate in self._rates)
        at_s = 0.0
        while total > 0:
            at_s += self._times.expovariate(total)
            kinds, weights = zip(*self._rates, strict=True)
            yield at_s, self._times.choices(kinds, weights)[0]

    def which(self, count: int) -> int:
        """Return whom of so many it befalls."""
        return self._chance.randrange(count)

    def repair_s(self) -> float:
        """Return how long a repair takes, in simulated seconds."""
        return self._chance.lognormvariate(math.log(REPAIR_S), REPAIR_SPREAD)


def built_in() -> list[tuple[Resources, int]]:
    """Return the sizes that stand here, with their weights."""
    return [
        (_whole(milli // MILLI) if milli >= MILLI else _shared(milli), many) for milli, many in SIZES
    ]


def of_trace(path: Path) -> list[tuple[Resources, int]]:
    """Return the sizes of a list of pods in openb's columns, of those that ask for GPUs. Raises ``ValueError``.

    Models of GPUs are left out: the simulated hall has one. CPUs and memory are as listed, no more of each than
    goes with its GPUs on these servers.
    """
    counts: dict[tuple[int, int, int, int], int] = {}
    with path.open(newline="") as opened:
        for line in csv.DictReader(opened):
            try:
                gpus, milli = int(line["num_gpu"]), min(int(line["gpu_milli"] or 0), MILLI)
                cpu_milli, memory_mib = int(line["cpu_milli"]), int(line["memory_mib"])
            except (KeyError, ValueError) as fault:
                raise ValueError(
                    f"{path.name} is no list of pods in openb's columns: {fault}"
                ) from fault
            if not 0 < gpus <= SERVER_GPUS or not milli:
                continue
            size = (gpus, 0) if milli == MILLI else (0, milli)
            most = max(1, size[0])
            room = (min(cpu_milli, most * CPU_MILLI_A_GPU), min(memory_mib, most * MEMORY_MIB_A_GPU))
            counts[(*size, *room)] = counts.get((*size, *room), 0) + 1
    if not counts:
        raise ValueError(f"{path.name} has no pod that asks for a GPU")
    return [
        (Resources(gpus=gpus, gpu_milli=milli, cpu_milli=cpu, memory_mib=max(1, memory)), many)
        for (gpus, milli, cpu, memory), many in counts.items()
    ]


def _whole(gpus: int) -> Resources:
    return Resources(gpus=gpus, cpu_milli=gpus * CPU_MILLI_A_GPU, memory_mib=gpus * MEMORY_MIB_A_GPU)


def _shared(milli: int) -> Resources:
    return Resources(
        gpu_milli=milli,
        cpu_milli=milli * CPU_MILLI_A_GPU // MILLI,
        memory_mib=milli * MEMORY_MIB_A_GPU // MILLI,
    )


def _milli(resources: Resources) -> int:
    return resources.gpus * MILLI or resources.gpu_milli


def _mean(weighted: Sequence[tuple[int, int]]) -> float:
    return sum(value * weight for value, weight in weighted) / sum(weight for _, weight in weighted)


def _one_of(chance: random.Random, weighted: Sequence[tuple[T, int]]) -> T:
    return chance.choices([value for value, _ in weighted], [weight for _, weight in weighted])[0]
