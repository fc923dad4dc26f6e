"""What thrift saves: planned watts of GPUs at part load, and what it costs when the site is full."""

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
WATT = 240
"""Thousandths of a milli of fragments that a watt costs."""


def saving(
    specs: Sequence[NodeSpec], pods: Sequence[openb.Pod], seed: int, watt: int = WATT
) -> dict[str, Any]:
    """Return planned kW at ``LOAD`` under published FGD, ours and ours with thrift; and the full site's allocation."""
    milli = sum(spec.gpus for spec in specs) * 1_000
    part = openb.arrivals(pods, seed, milli, LOAD)
    fgd = Fgd(specs, pods)
    drive_fgd(fgd, part)
    idle = np.array([spec.idle_w for spec in specs])
    each = np.array([spec.gpu_w for spec in specs])
    cards = np.array([spec.gpus for spec in specs])
    theirs = int((idle + (cards - (fgd.free >= 1_000).sum(1)) * each).sum())
    plain, _ = _run(specs, pods, part, 0)
    thrifty, _ = _run(specs, pods, part, watt)
    full = openb.arrivals(pods, seed, milli, FULL)
    _, plain_pct = _run(specs, pods, full, 0)
    _, thrifty_pct = _run(specs, pods, full, watt)
    return {
        "load": LOAD,
        "fgd_kw": round(theirs / 1_000, 1),
        "ours_kw": round(plain / 1_000, 1),
        "thrifty_kw": round(thrifty / 1_000, 1),
        "saved_pct": round(100 * (1 - thrifty / theirs), 2),
        "full_pct": round(plain_pct, 3),
        "full_thrifty_pct": round(thrifty_pct, 3),
    }


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
