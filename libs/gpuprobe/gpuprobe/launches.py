"""The check ``launches``: is every launch carried out, and answered in time; can memory be had."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuprobe.fault import FaultUnusable
from gpuprobe.probe import Probe, Setting
from gpuprobe.slab import ALL
from gpuprobe.verdict import CORDON, REPLACE, WATCH, Evidence, Finding

BATCH = 200
"""Launches between two looks at the stop flag."""

ALONE = 10
"""One launch of so many is waited for by itself."""

P99_US_MAX = 1_000.0
"""A launch that is waited for is answered within some tens of microseconds on a sound device."""

LAUNCHES_MAX = 100_000
SPOTS = 64
"""So many places of the memory taken are written and read."""


@dataclass(frozen=True)
class Size:
    """So many launches, after so many bytes of memory were taken."""

    launches: int
    bytes: int


def run(setting: Setting, size: Size) -> Finding:
    """Return whether launches are lost or late, after memory was had."""
    backend = setting.backend
    evidence: Evidence = {"launches": size.launches, **_taken(setting, size.bytes)}
    if evidence["spots_wrong"]:
        detail = f"{evidence['spots_wrong']} of {SPOTS} words in memory that was just had do not hold"
        return Finding(verdict="fail", detail=detail, action=REPLACE, evidence=evidence)
    counter: Any = backend.put(np.zeros(1, np.uint32))
    lost = _lost(setting)
    backend.launch("count_launch", counter, blocks=1, threads=32)
    backend.wait()
    waits, began, done = [], time.perf_counter(), 1
    while done < size.launches:
        setting.go_on()
        some = min(BATCH, size.launches - done)
        for number in range(done, done + some):
            if number - done < some // ALONE:
                asked = time.perf_counter()
                backend.launch("count_launch", counter, blocks=1, threads=32)
                backend.wait()
                waits.append((time.perf_counter() - asked) * 1e6)
            elif number not in lost:
                backend.launch("count_launch", counter, blocks=1, threads=32)
        backend.wait()
        done += some
    each_us = (time.perf_counter() - began) / size.launches * 1e6
    counted = int(backend.fetch(counter)[0])
    waits.sort()
    p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    evidence |= {"counted": counted, "p50_us": round(p50, 1), "p99_us": round(p99, 1)}
    evidence |= {"each_us": round(each_us, 2)}
    if counted != size.launches:
        detail = f"{counted} of {size.launches} launches were carried out"
        return Finding(verdict="fail", detail=detail, action=CORDON, evidence=evidence)
    if backend.name == "cupy" and p99 > P99_US_MAX:
        detail = f"of a hundred launches one waits {p99:.0f} us: the driver is slow to answer"
        return Finding(verdict="warn", detail=detail, action=WATCH, evidence=evidence)
    detail = f"{size.launches} launches were carried out, one answered in {p50:.0f} us (p99 {p99:.0f})"
    return Finding(verdict="pass", detail=detail, evidence=evidence)


def _taken(setting: Setting, wanted: int) -> Evidence:
    """Take memory and touch it here and there; say how long that took."""
    backend = setting.backend
    began = time.perf_counter()
    words: Any = setting.memory(wanted, 4 * SPOTS)
    stride = int(words.size) // SPOTS
    what = 0xA5A5A5A5
    backend.launch("strike_stick", words, 0, stride, SPOTS, 0xFFFFFFFF, what)
    held = backend.fetch(words[::stride][:SPOTS])
    took_ms = (time.perf_counter() - began) * 1_000
    wrong = int(np.count_nonzero(held != what))
    had: Evidence = {"taken_bytes": int(words.nbytes), "taken_ms": round(took_ms, 2)}
    return had | {"spots_wrong": wrong}


def _lost(setting: Setting) -> set[int]:
    """Return the numbers of the launches that faults leave out."""
    lost: set[int] = set()
    for fault in setting.struck("launches"):
        if fault.kind != "drop":
            raise FaultUnusable(f"launches has no fault of the kind {fault.kind}: drop")
        if fault.word >= BATCH:
            raise FaultUnusable(f"a launch of the first {BATCH} is left out, not number {fault.word}")
        # What is waited for by itself stays: the first that is not, or one of every batch.
        once = {max(fault.word, BATCH // ALONE + 1)}
        lost |= set(range(BATCH - 1, LAUNCHES_MAX, BATCH)) if fault.persistent else once
    return lost


PROBE = Probe(
    "launches",
    run,
    sizes={"quick": Size(2_000, 32 * 2**30), "standard": Size(10_000, ALL), "deep": Size(10_000, ALL)},
    small={level: Size(BATCH * 2, 256 * 2**10) for level in ("quick", "standard", "deep")},
    holds=True,
)
