"""What thrift saves: planned watts of GPUs at part load, and what it costs when the site is full."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.wish import Weighed

from mesh_tools.bench.placement import openb
from mesh_tools.bench.placement.driven import asked, drive, engine_of
from mesh_tools.bench.placement.yardstick import Fgd, drive_fgd

LOAD = 0.6
FULL = 1.3
WATT = 1_000
"""Thousandths of a milli of fragments that a watt costs."""


def saving(
    specs: Sequence[NodeSpec], pods: Sequence[openb.Pod], seeds: Sequence[int], watt: int = WATT
) -> dict[str, Any]:
    """Return planned kW at ``LOAD`` under published FGD, ours and ours with thrift; and the full site's allocation.

    Each is the mean of all ``seeds``; ``saved_pcts`` and ``costs_pcts`` are what each of them saves and costs.
    """
    found = [_one(specs, pods, seed, watt) for seed in seeds]
    fgd, ours, thrifty, full, full_thrifty = (
        statistics.mean(one[place] for one in found) for place in range(5)
    )
    return {
        "load": LOAD,
        "fgd_kw": round(fgd / 1_000, 1),
        "ours_kw": round(ours / 1_000, 1),
        "thrifty_kw": round(thrifty / 1_000, 1),
        "saved_pct": round(100 * (1 - thrifty / fgd), 2),
        "saved_pcts": [round(100 * (1 - one[2] / one[0]), 2) for one in found],
        "full_pct": round(full, 3),
        "full_thrifty_pct": round(full_thrifty, 3),
        "costs_pcts": [round(one[3] - one[4], 2) for one in found],
    }


def _one(
    specs: Sequence[NodeSpec], pods: Sequence[openb.Pod], seed: int, watt: int
) -> tuple[int, int, int, float, float]:
    """Return the watts of FGD, ours, ours with thrift, and ours and thrift's percent in use when full."""
    milli = sum(spec.gpus for spec in specs) * 1_000
    part, full = (openb.arrivals(pods, seed, milli, load) for load in (LOAD, FULL))
    fgd = Fgd(specs, pods)
    drive_fgd(fgd, part)
    idle = np.array([spec.idle_w for spec in specs])
    each = np.array([spec.gpu_w for spec in specs])
    cards = np.array([spec.gpus for spec in specs])
    theirs = int((idle + (cards - (fgd.free >= 1_000).sum(1)) * each).sum())
    plain, thrifty = (_run(specs, pods, part, weight)[0] for weight in (0, watt))
    plain_pct, thrifty_pct = (_run(specs, pods, full, weight)[1] for weight in (0, watt))
    return theirs, plain, thrifty, plain_pct, thrifty_pct


def _run(
    specs: Sequence[NodeSpec], pods: Sequence[openb.Pod], order: Sequence[openb.Pod], watt: int
) -> tuple[int, float]:
    milli = sum(spec.gpus for spec in specs) * 1_000
    engine = engine_of(specs, openb.mix_of(pods))
    engine.apply(Weighed(watt=watt))
    used = openb.Allocation(milli)
    wishes = [asked(number, pod.size) for number, pod in enumerate(order)]
    drive(engine, wishes, lambda size, done: used.note(size, placed=done))
    return int(engine.power.planned["site"].sum()), used.pct(FULL)
