"""The check ``bandwidth``: does memory move as fast as on such a card, and arrive unharmed."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuprobe import floors, pattern
from gpuprobe.fault import FaultUnusable
from gpuprobe.probe import SLICE_AIM, SLICE_MS, Probe, Setting
from gpuprobe.slab import LEAST_BYTES, VECTOR_BYTES, Fill
from gpuprobe.strikes import strike
from gpuprobe.verdict import REPLACE, Evidence, Finding
from gpuprobe.wrongs import Log, set_bits

FIRST_BYTES = 256 * 2**20
"""What is copied first, to learn how much fits into a slice: more than a cache holds."""


IN_A_ROW = 5


@dataclass(frozen=True)
class Size:
    """``bytes`` a buffer at most; ``samples`` copies, or fewer where ``eager`` ends with enough good ones."""

    bytes: int
    samples: int
    eager: bool = False


def run(setting: Setting, size: Size) -> Finding:
    """Return the speed of copies against the floors, and whether the copy is the original."""
    backend = setting.backend
    backend.prepare("fill_hash", "check_hash", "copy_words", "read_words", "write_words")
    room = setting.room(2 * size.bytes, 2 * LEAST_BYTES) // 2
    words = room // VECTOR_BYTES * pattern.WORDS
    here: Any = backend.empty(words, np.uint32)
    there: Any = backend.empty(words, np.uint32)
    what = Fill("hash", (pattern.key(setting.seed, 0), 0))
    vectors = _fitting(setting, here, there)
    backend.launch("fill_hash", here, 0, vectors, *what.numbers)
    copy = _copying(setting, here[: vectors * 4], there[: vectors * 4])
    moved = vectors * VECTOR_BYTES / 1e6
    profile = floors.profile(backend.traits.model)
    figure = profile.copy if profile else None
    enough_ms = 2 * moved / floors.aim(setting, "copy_gbps", figure) if size.eager else 0.0
    copies = _samples(setting, size.samples, copy, enough_ms)
    strike(setting, "bandwidth", there, 0, beside="slow")
    log, digest = Log(backend), backend.put(np.zeros(1, np.uint32))
    backend.launch("check_hash", there, 0, vectors, *what.numbers, log.array, 0)
    some = max(2, len(copies) // 8)
    reads = _samples(setting, some, lambda: backend.launch("read_words", here, vectors, digest))
    writes = _samples(setting, some, lambda: backend.launch("write_words", there, vectors, 0x5A5A5A5A))
    own = _samples(setting, some, lambda: backend.launch("copy_words", there, here, vectors))
    speed = 2 * moved / floors.fastest(copies, IN_A_ROW)
    measured = {
        "copy_gbps": speed,
        "read_gbps": moved / floors.fastest(reads, IN_A_ROW),
        "write_gbps": moved / floors.fastest(writes, IN_A_ROW),
        "kernel_copy_gbps": 2 * moved / floors.fastest(own, IN_A_ROW),
    }
    judged = floors.judge(setting, "copy_gbps", speed, figure)
    evidence: Evidence = {
        **judged.evidence,
        "samples": len(copies),
        "bytes": vectors * VECTOR_BYTES,
        "median_gbps": round(2 * moved / statistics.median(copies), 3),
        "slowest_gbps": round(2 * moved / max(copies), 3),
        "slice_ms": round(max(copies), 3),
    }
    wrongs = log.read()
    if wrongs.count:
        first = wrongs.examples[0]
        evidence |= {"word": first.where, "mask": hex(first.mask), "bits": set_bits(first.mask)}
        evidence |= {"words_wrong": wrongs.count, "offset": hex(first.where * 4)}
        detail = f"{wrongs.count} words of a copy are not the original's, the first {hex(first.where * 4)} bytes on"
        return Finding(verdict="fail", detail=detail, action=REPLACE, evidence=evidence)
    detail = f"copies at {speed:,.0f} GB/s, read and written: {judged.words}"
    return Finding(
        verdict=judged.verdict,
        detail=detail,
        action=judged.action,
        evidence=evidence,
        measured=measured,
    )


def _copying(setting: Setting, here: Any, there: Any) -> Callable[[], None]:
    """Return the driver's copy of one buffer to the other, slowed as the faults say."""
    again = _slower(setting)
    part = int(here.size * (again % 1))

    def copy() -> None:
        setting.backend.move(there, here)
        # An injected slowness: what is moved beyond what is counted.
        for _ in range(int(again)):
            setting.backend.move(there, here)
        if part:
            setting.backend.move(there[:part], here[:part])

    return copy


def _fitting(setting: Setting, here: Any, there: Any) -> int:
    """Return how many vectors are copied within a slice, by what a small copy took."""
    backend, most = setting.backend, int(here.size) // pattern.WORDS
    few = min(most, FIRST_BYTES // VECTOR_BYTES)
    took = 1.0
    for _ in range(2):
        took = backend.timed(lambda: backend.launch("copy_words", there, here, few))
    fits = int(few * SLICE_MS * SLICE_AIM / max(took, 1e-3))
    # A small copy is held up by its launch: it is taken for slower than a large one.
    return max(1, min(most, fits))


def _samples(
    setting: Setting, count: int, work: Callable[[], None], enough_ms: float = 0.0
) -> list[float]:
    """Return the milliseconds of ``count`` runs after one that does not count.

    It ends sooner where ``IN_A_ROW`` of them took no more than ``enough_ms`` each.
    """
    took: list[float] = []
    setting.backend.timed(work)
    while len(took) < count:
        setting.go_on()
        took.append(max(setting.backend.timed(work), 1e-6))
        if len(took) >= IN_A_ROW and max(took[-IN_A_ROW:]) <= enough_ms:
            break
    return took


def _slower(setting: Setting) -> float:
    """Return what part of each copy is done once more, by the faults that slow it."""
    factor = 1.0
    for fault in setting.struck("bandwidth"):
        if fault.kind == "slow":
            if not 1.0 <= fault.factor <= 100.0:
                raise FaultUnusable(f"a run cannot be slowed by the factor {fault.factor}: 1 to 100")
            factor *= fault.factor
    return factor - 1.0


GIB = 2**30
PROBE = Probe(
    "bandwidth",
    run,
    sizes={
        "quick": Size(4 * GIB, 200, eager=True),
        "standard": Size(4 * GIB, 200),
        "deep": Size(4 * GIB, 1_000),
    },
    small={"quick": Size(2**17, 3), "standard": Size(2**17, 10), "deep": Size(2**18, 20)},
)
