"""The yardstick: fragmentation gradient descent as published, every node scored anew for every pod.

Weng et al. (USENIX ATC 2023) and the defaults of its artifact: score = int(100 * sigmoid(Δ / 1000)), equal
scores to the first name; all sizes of the trace are typical. It shares no code with our engine.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from mesh_tools.bench.placement.driven import Timed, timed
from mesh_tools.bench.placement.openb import Pod
from placement.domain.engine.site import NodeSpec

CARDS = 8


class Fgd:
    """A cluster under published FGD."""

    def __init__(self, specs: Sequence[NodeSpec], pods: Sequence[Pod]) -> None:
        self._models = {name: code for code, name in enumerate(sorted({spec.model for spec in specs}))}
        self.free = np.array(
            [[1_000.0 * (card < spec.gpus) for card in range(CARDS)] for spec in specs]
        )
        self.cpu = np.array([float(spec.cpu_milli) for spec in specs])
        self.memory = np.array([float(spec.memory_mib) for spec in specs])
        self.model = np.array([self._models[spec.model] for spec in specs])
        counts: dict[Any, int] = {}
        for pod in pods:
            size = pod.size
            key = (size.cards, size.milli_each, size.cpu_milli, size.models)
            counts[key] = counts.get(key, 0) + 1
        self._typical = [
            (count / len(pods), cards, each, cpu, self._allowed(models))
            for (cards, each, cpu, models), count in counts.items()
        ]

    def place(self, pod: Pod) -> bool:
        """Place one pod where it takes most fragmentation away; tell whether it fits anywhere."""
        size = pod.size
        fits = (self.cpu >= size.cpu_milli) & (self.memory >= size.memory_mib)
        fits &= self._allowed(size.models)[self.model]
        if size.cards:
            fits &= (self.free >= size.milli_each).sum(1) >= size.cards
        rows = np.flatnonzero(fits)
        if not len(rows):
            return False
        cpu = self.cpu[rows] - size.cpu_milli
        before = self._fragments(self.free[rows], self.cpu[rows], self.model[rows])
        best, card = np.full(len(rows), -np.inf), np.zeros(len(rows), np.int64)
        for one in range(CARDS if size.gpu_milli else 1):
            after = self.free[rows].copy()
            if size.gpu_milli:
                can = after[:, one] >= size.gpu_milli
                after[:, one] -= size.gpu_milli
            else:
                can = np.ones(len(rows), bool)
                whole = after >= 1_000
                after[whole & (whole.cumsum(1) <= size.gpus)] = 0
            gain = np.where(can, before - self._fragments(after, cpu, self.model[rows]), -np.inf)
            card[gain > best] = one
            best = np.maximum(best, gain)
        scores = (100 / (1 + np.exp(-best / 1_000))).astype(np.int64)
        at = int(scores.argmax())
        row = rows[at]
        if size.gpu_milli:
            self.free[row, card[at]] -= size.gpu_milli
        elif size.gpus:
            self.free[row, np.flatnonzero(self.free[row] >= 1_000)[: size.gpus]] = 0
        self.cpu[row] -= size.cpu_milli
        self.memory[row] -= size.memory_mib
        return True

    def _allowed(self, models: tuple[str, ...]) -> Any:
        return np.array([not models or name in models for name in self._models])

    def _fragments(self, free: Any, cpu: Any, model: Any) -> Any:
        idle = free.sum(1)
        found = np.zeros(len(free))
        for share, cards, each, asks, allowed in self._typical:
            if not cards:
                found += share * idle
                continue
            usable = free >= each
            runs = (usable.sum(1) >= cards) & (cpu >= asks) & allowed[model]
            found += share * np.where(runs, np.where(usable, 0, free).sum(1), idle)
        return found


def drive_fgd(fgd: Fgd, pods: Sequence[Pod]) -> tuple[Timed, list[bool]]:
    """Give each pod to the yardstick; return what it took, and which were placed."""
    took, placed = [], []
    for pod in pods:
        began = time.perf_counter_ns()
        placed.append(fgd.place(pod))
        took.append(time.perf_counter_ns() - began)
    return timed(took, sum(placed)), placed
