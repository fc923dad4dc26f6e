"""The check ``sm_sweep``: every multiprocessor, every scheduler, the same chains; the one that differs is named."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuprobe import chains
from gpuprobe.chains import LANES, UNITS
from gpuprobe.fault import Fault, FaultUnusable
from gpuprobe.operands import mix32
from gpuprobe.probe import SLICE_AIM, SLICE_MS, Probe, Setting
from gpuprobe.verdict import AGAIN, REPLACE, Evidence, Finding

SCHEDULERS = 4
"""Of each multiprocessor; a warp stays with one."""

THREADS = 256
"""A block of eight warps reaches all four."""

MULTIPROCESSORS_MAX = 1024
BLOCKS_EACH = 4
"""Blocks to a multiprocessor in one launch: all get some, whatever else they do."""

LAUNCHES_MAX = 64
"""So often it is tried to reach every multiprocessor before the rest are called unseen."""

ANY_BLOCK = 0xFFFFFFFF
NO_SLOT = 0xFFFFFFFF
NAMED_MAX = 16
"""At most so many multiprocessors stand in the evidence."""


@dataclass(frozen=True)
class Size:
    """How long the chains are, and how often they are run at least."""

    rounds: int
    launches: int


@dataclass(frozen=True)
class Chain:
    """What a launch computes, and what it must come to."""

    seed: int
    rounds: int
    expected: Any
    """uint32[unit, lane]"""


@dataclass
class Swept:
    """What the launches came to, per slot: a multiprocessor's scheduler."""

    threads: Any
    """uint32[slot]"""
    off: Any
    """bool[slot, unit]: compared there, or by its sum here"""
    lanes: Any
    """uint32[slot, unit]: which lanes"""
    bits: Any
    """uint32[slot, unit]: which bits"""
    launches: int = 0
    launches_wrong: int = 0
    longest_ms: float = 0.0

    @property
    def schedulers(self) -> int:
        """Return how many schedulers were seen."""
        return int(np.count_nonzero(self.threads))

    @property
    def multiprocessors(self) -> Any:
        """Return which multiprocessors were seen."""
        return np.unique(np.flatnonzero(self.threads) // SCHEDULERS)


def run(setting: Setting, size: Size) -> Finding:
    """Return whether every multiprocessor comes to what NumPy came to."""
    swept = sweep(setting, size)
    return _judge(swept, setting.backend.traits.multiprocessors)


def sweep(setting: Setting, size: Size) -> Swept:
    """Launch until the size is done and every multiprocessor was seen, or that was tried often enough."""
    backend = setting.backend
    slots = MULTIPROCESSORS_MAX * SCHEDULERS
    swept = Swept(
        np.zeros(slots, np.uint32),
        np.zeros((slots, len(UNITS)), bool),
        np.zeros((slots, len(UNITS)), np.uint32),
        np.zeros((slots, len(UNITS)), np.uint32),
    )
    faults = setting.struck("sm_sweep")
    wanted, seed = backend.traits.multiprocessors, setting.seed & 0xFFFFFFFF
    chain = _chain(seed, size.rounds)
    while swept.launches < size.launches or (
        swept.schedulers < wanted * SCHEDULERS and swept.launches < LAUNCHES_MAX
    ):
        setting.go_on()
        ms = _launch(setting, swept, chain, _fault(faults, swept.launches))
        if ms > SLICE_MS and chain.rounds > 1:
            chain = _chain(seed, max(1, int(chain.rounds * SLICE_MS * SLICE_AIM / ms)))
    return swept


def _chain(seed: int, rounds: int) -> Chain:
    return Chain(seed, rounds, chains.results(seed, rounds))


def _launch(setting: Setting, swept: Swept, chain: Chain, fault: tuple[int, ...]) -> float:
    backend, slots = setting.backend, len(swept.threads)
    found = backend.empty(slots * len(UNITS), np.uint64)
    threads = backend.empty(slots, np.uint32)
    wrong = backend.empty(slots * len(UNITS) * 3, np.uint32)
    for array in (found, threads, wrong):
        array.fill(0)
    table = backend.put(chain.expected.reshape(-1))
    ms = backend.timed(
        lambda: backend.launch(
            "sm_sweep",
            *(chain.seed, chain.rounds, slots, table, found, threads, wrong, *fault),
            blocks=backend.traits.multiprocessors * BLOCKS_EACH,
            threads=THREADS,
        )
    )
    seen = backend.fetch(threads)
    there = backend.fetch(wrong).reshape(slots, len(UNITS), 3)
    one_warp = mix32(chain.expected ^ np.arange(LANES, dtype=np.uint32)).sum(axis=1, dtype=np.uint64)
    should = (seen // LANES).astype(np.uint64)[:, None] * one_warp
    off = (there[:, :, 0] != 0) | (backend.fetch(found).reshape(slots, len(UNITS)) != should)
    swept.threads += seen
    swept.off |= off
    swept.lanes |= there[:, :, 1]
    swept.bits |= there[:, :, 2]
    swept.launches += 1
    swept.launches_wrong += bool(off.any())
    swept.longest_ms = max(swept.longest_ms, ms)
    return ms


def _fault(faults: list[Fault], launch: int) -> tuple[int, ...]:
    """Return what the kernel is told of the fault: unit, slot, lanes, bits, block."""
    for fault in faults:
        if fault.kind != "perturb" or fault.sm >= MULTIPROCESSORS_MAX or fault.line >= SCHEDULERS:
            raise FaultUnusable(
                "a sweep takes perturb,sm=17,line=2 (scheduler),level=0 (unit),word=0xff (lanes),mask=1"
            )
        if fault.strikes(launch):
            lanes = fault.word or 0xFFFFFFFF
            return (
                fault.level % len(UNITS),
                fault.sm * SCHEDULERS + fault.line,
                lanes,
                fault.mask,
                ANY_BLOCK,
            )
    return (0, NO_SLOT, 0, 0, ANY_BLOCK)


def _judge(swept: Swept, wanted: int) -> Finding:
    seen = swept.multiprocessors
    evidence: Evidence = {
        "multiprocessors": len(seen),
        "schedulers": swept.schedulers,
        "launches": swept.launches,
        "longest_slice_ms": round(swept.longest_ms, 3),
    }
    slots, units = np.nonzero(swept.off)
    if len(slots):
        evidence |= _named(swept, slots, units)
        sm, unit = int(slots[0]) // SCHEDULERS, UNITS[int(units[0])]
        many = len(set((slots // SCHEDULERS).tolist()))
        more = f" (and {many - 1} more)" if many > 1 else ""
        detail = (
            f"multiprocessor {sm}{more} computes wrongly ({unit}), in {swept.launches_wrong}"
            f" of {swept.launches} launches"
        )
        return Finding(verdict="fail", detail=detail, action=REPLACE, evidence=evidence)
    if swept.schedulers < wanted * SCHEDULERS:
        detail = (
            f"only {len(seen)} of {wanted} multiprocessors, {swept.schedulers} of their schedulers,"
            f" were given work in {swept.launches} launches"
        )
        return Finding(verdict="inconclusive", detail=detail, action=AGAIN, evidence=evidence)
    detail = f"{len(seen)} multiprocessors come to the same right results"
    return Finding(verdict="pass", detail=detail, evidence=evidence)


def _named(swept: Swept, slots: Any, units: Any) -> Evidence:
    slot, unit = int(slots[0]), int(units[0])
    sm = slot // SCHEDULERS
    named = sorted(set((slots // SCHEDULERS).tolist()))
    ours = sorted({int(s) % SCHEDULERS for s in slots if s // SCHEDULERS == sm})
    return {
        "sm": sm,
        "sms": named[:NAMED_MAX],
        "sms_wrong": len(named),
        "schedulers_wrong": ours,
        "units": " ".join(sorted({UNITS[int(u)] for u in units})),
        "lanes": hex(int(swept.lanes[slot, unit])),
        "xor": hex(int(swept.bits[slot, unit])),
        "launches_wrong": swept.launches_wrong,
    }


PROBE = Probe(
    "sm_sweep",
    run,
    sizes={
        "quick": Size(rounds=256, launches=2),
        "standard": Size(rounds=512, launches=64),
        "deep": Size(rounds=512, launches=1_000),
    },
    small={
        "quick": Size(rounds=8, launches=1),
        "standard": Size(rounds=8, launches=2),
        "deep": Size(rounds=8, launches=4),
    },
)
