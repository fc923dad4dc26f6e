"""The check ``sram``: the shared memory of every multiprocessor, and the L2; a bad one is named."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuprobe import pattern
from gpuprobe.fault import FaultUnusable
from gpuprobe.probe import Probe, Setting
from gpuprobe.slab import VECTOR_BYTES, Fill
from gpuprobe.strikes import strike
from gpuprobe.verdict import AGAIN, REPLACE, Evidence, Finding
from gpuprobe.wrongs import Log, Wrongs, set_bits

THREADS = 1_024
SEEN_MAX = 1_024
LAUNCHES_MAX = 20
"""So often a launch is repeated until every multiprocessor was reached."""

L2_PART = 0.4
"""This part of the L2 is marched over: a chip of two halves keeps some lines in both."""

PASSES_MAX = 8
"""Passes over the L2 between two looks at the stop flag."""


@dataclass(frozen=True)
class Size:
    """``rounds`` of March C- in a launch, so many launches at least, and passes over the L2."""

    rounds: int
    launches: int
    passes: int


def run(setting: Setting, size: Size) -> Finding:
    """Return whether the cells on the chip stand a march; a multiprocessor that does not is named."""
    backend = setting.backend
    traits = backend.traits
    log, cells = Log(backend), traits.shared_bytes // 4
    seen: Any = backend.put(np.zeros(SEEN_MAX, np.uint32))
    hit = _hit(setting, cells)
    backend.prepare("shared_march", "fill_hash", "turn_l2")
    reached, longest = 0, 0.0
    for number in range(LAUNCHES_MAX):
        setting.go_on()
        key = pattern.key(setting.seed, number)
        due = (*hit[:2], hit[2] if number == 0 or hit[3] else 0, hit[3])

        def march(key: int = key, due: tuple[int, ...] = due) -> None:
            numbers = (cells, size.rounds, key, *due, seen, SEEN_MAX, log.array)
            shape = {"blocks": traits.multiprocessors, "threads": THREADS, "shared": cells * 4}
            backend.launch("shared_march", *numbers, **shape)

        longest = max(longest, backend.timed(march))
        reached = int(np.count_nonzero(backend.fetch(seen)))
        if reached >= traits.multiprocessors and number + 1 >= size.launches:
            break
    evidence: Evidence = {
        "multiprocessors": traits.multiprocessors,
        "reached": reached,
        "shared_bytes": cells * 4,
        "slice_ms": round(longest, 3),
    }
    wrongs = log.read()
    if wrongs.count:
        return _named(wrongs, evidence)
    finding = _l2(setting, size, evidence)
    if finding is not None:
        return finding
    if reached < traits.multiprocessors:
        detail = f"only {reached} of {traits.multiprocessors} multiprocessors could be reached"
        return Finding(verdict="inconclusive", detail=detail, action=AGAIN, evidence=evidence)
    detail = (
        f"{cells * 4 // 1024} KiB on each of {reached} multiprocessors and the L2 stood their marches"
    )
    return Finding(verdict="pass", detail=detail, evidence=evidence)


def _named(wrongs: Wrongs, evidence: Evidence) -> Finding:
    first = wrongs.examples[0]
    sms = sorted({example.sm for example in wrongs.examples})
    evidence |= {"sm": first.sm, "sms": sms, "cell": first.where, "mask": hex(first.mask)}
    evidence |= {"bits": set_bits(first.mask), "words_wrong": wrongs.count}
    detail = (
        f"the shared memory of multiprocessor {first.sm} is wrong in cell {first.where},"
        f" bits {set_bits(first.mask)}"
    )
    if len(sms) > 1:
        detail += f" (and {len(sms) - 1} more multiprocessors)"
    return Finding(verdict="fail", detail=detail, action=REPLACE, evidence=evidence)


def _l2(setting: Setting, size: Size, evidence: Evidence) -> Finding | None:
    backend = setting.backend
    vectors = int(backend.traits.l2_bytes * L2_PART) // VECTOR_BYTES
    # A march over less would leave a part of the L2 out: there is room for it, or it is not judged.
    setting.room(vectors * VECTOR_BYTES, vectors * VECTOR_BYTES)
    words: Any = backend.empty(vectors * pattern.WORDS, np.uint32)
    log = Log(backend)
    what = Fill("hash", (pattern.key(setting.seed, SEEN_MAX), 0))
    backend.launch("fill_hash", words, 0, vectors, *what.numbers)
    strike(setting, "sram", words, 0, beside="perturb")
    took, done = 0.0, 0
    while done < size.passes:
        setting.go_on()
        some = min(PASSES_MAX, size.passes - done)

        def turn(first: int = done, some: int = some) -> None:
            for number in range(first, first + some):
                now = what.inverse if number % 2 else what
                order = (number // 2 % 2, log.array, number)
                backend.launch("turn_l2", words, 0, vectors, *now.numbers, *order)

        took += backend.timed(turn)
        done += some
    wrongs = log.read()
    evidence |= {"l2_bytes": vectors * VECTOR_BYTES, "l2_passes": done}
    if took > 0 and backend.name == "cupy":
        evidence["l2_gbps"] = round(2 * vectors * VECTOR_BYTES * done / took / 1e6, 1)
    if not wrongs.count:
        return None
    first = wrongs.examples[0]
    evidence |= {"word": first.where, "offset": hex(first.where * 4), "mask": hex(first.mask)}
    evidence |= {"bits": set_bits(first.mask), "words_wrong": wrongs.count}
    detail = f"{wrongs.count} words in the L2 are wrong, the first {hex(first.where * 4)} bytes on"
    return Finding(verdict="fail", detail=detail, action=REPLACE, evidence=evidence)


def _hit(setting: Setting, cells: int) -> tuple[int, int, int, int]:
    """Return the one fault of a multiprocessor's own: where, in which cell, which bits, how often."""
    for fault in setting.struck("sram"):
        if fault.kind == "perturb":
            if fault.word >= cells or fault.sm >= setting.backend.traits.multiprocessors:
                raise FaultUnusable(f"a multiprocessor has {cells} cells; {fault} is outside of it")
            return fault.sm, fault.word, fault.mask, int(fault.persistent)
    return 0, 0, 0, 0


PROBE = Probe(
    "sram",
    run,
    sizes={"quick": Size(8, 1, 40), "standard": Size(16, 50, 4_000), "deep": Size(16, 500, 40_000)},
    small={"quick": Size(1, 1, 2), "standard": Size(2, 1, 4), "deep": Size(2, 2, 8)},
)
