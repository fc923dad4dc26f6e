"""The yardstick: fragmentation gradient descent as published, every node scored anew for every pod.

Weng et al. (USENIX ATC 2023) and the defaults of its artifact: score = int(100 * sigmoid(Δ / 1000)), equal
scores to the first name; all sizes of the trace are typical. It keeps no score, and knows no other
constraint; the sums over typical sizes are our tables' (``mix``), which are faster than a loop over them.
"""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from placement.domain.engine.mix import ONE, Mix
from placement.domain.engine.site import NodeSpec

from mesh_tools.bench.placement.driven import Timed, timed
from mesh_tools.bench.placement.openb import Pod

CARDS = 8
WHOLE = 1_000


class Fgd:
    """A cluster under published FGD."""

    def __init__(self, specs: Sequence[NodeSpec], pods: Sequence[Pod]) -> None:
        self._models = {name: code for code, name in enumerate(sorted({spec.model for spec in specs}))}
        self.free = np.array([[WHOLE * (card < spec.gpus) for card in range(CARDS)] for spec in specs])
        self.cpu = np.array([spec.cpu_milli for spec in specs])
        self.memory = np.array([spec.memory_mib for spec in specs])
        self.model = np.array([self._models[spec.model] for spec in specs])
        self._mix = Mix(Counter(pod.size for pod in pods).items(), self._models)

    def place(self, pod: Pod) -> bool:
        """Place one pod where it takes most fragmentation away; tell whether it fits anywhere."""
        size = pod.size
        fits = (self.cpu >= size.cpu_milli) & (self.memory >= size.memory_mib)
        if size.models:
            fits &= np.isin(self.model, [self._models.get(name, -1) for name in size.models])
        if size.cards:
            fits &= (self.free >= size.milli_each).sum(1) >= size.cards
        rows = np.flatnonzero(fits)
        if not len(rows):
            return False
        free, cpu, model = self.free[rows], self.cpu[rows] - size.cpu_milli, self.model[rows]
        before = self._mix.useful(free, self.cpu[rows], model)
        card: Any = np.zeros(len(rows), np.int64)
        if size.gpu_milli:
            at, which = np.nonzero(free >= size.gpu_milli)
            left = free[at]
            left[np.arange(len(at)), which] -= size.gpu_milli
            worth = np.full(free.shape, -1, np.int64)
            worth[at, which] = self._mix.useful(left, cpu[at], model[at])
            card, after = worth.argmax(1), worth.max(1)
        else:
            whole = free >= WHOLE
            left = np.where(whole & (whole.cumsum(1) <= size.gpus), 0, free)
            after = self._mix.useful(left, cpu, model)
        gain = (after - before) / ONE + size.milli
        best = int((100 / (1 + np.exp(-gain / 1_000))).astype(np.int64).argmax())
        row = rows[best]
        if size.gpu_milli:
            self.free[row, card[best]] -= size.gpu_milli
        elif size.gpus:
            self.free[row, np.flatnonzero(self.free[row] >= WHOLE)[: size.gpus]] = 0
        self.cpu[row] -= size.cpu_milli
        self.memory[row] -= size.memory_mib
        return True


def drive_fgd(fgd: Fgd, pods: Sequence[Pod]) -> tuple[Timed, list[bool]]:
    """Give each pod to the yardstick; return what it took, and which were placed."""
    took, placed = [], []
    for pod in pods:
        began = time.perf_counter_ns()
        placed.append(fgd.place(pod))
        took.append(time.perf_counter_ns() - began)
    return timed(took, sum(placed)), placed
