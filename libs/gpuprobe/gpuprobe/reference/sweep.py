"""The sweep over multiprocessors."""

from typing import Any

import numpy as np

from gpuprobe import chains
from gpuprobe.chains import LANES, UNITS
from gpuprobe.operands import mix32

SCHEDULERS = 4
ALL_BLOCKS = 0xFFFFFFFF


def sm_sweep(
    grid: Any,
    seed: int,
    rounds: int,
    slots: int,
    expected: Any,
    found: Any,
    threads_seen: Any,
    wrong: Any,
    fault_unit: int,
    fault_slot: int,
    fault_lanes: int,
    fault_bits: int,
    fault_block: int,
) -> None:
    """Sweep; a block stands for a multiprocessor, and its warps go to the schedulers in turn."""
    results = chains.results(seed, rounds)
    lanes = np.arange(LANES, dtype=np.uint32)
    for block in range(grid.blocks):
        for warp in range(grid.threads // LANES):
            slot = block * SCHEDULERS + warp % SCHEDULERS
            if slot >= slots:
                continue
            threads_seen[slot] += LANES
            for unit in range(len(UNITS)):
                result = results[unit].copy()
                if slot == fault_slot and unit == fault_unit and fault_block in {block, ALL_BLOCKS}:
                    result[(fault_lanes >> lanes & 1) == 1] ^= np.uint32(fault_bits)
                at = slot * len(UNITS) + unit
                found[at : at + 1] += mix32(result ^ lanes).sum(dtype=np.uint64)
                off = result ^ expected[unit * LANES : (unit + 1) * LANES]
                wrong[at * 3] += np.count_nonzero(off)
                wrong[at * 3 + 1] |= np.bitwise_or.reduce(
                    np.where(off, 1 << lanes, 0).astype(np.uint32)
                )
                wrong[at * 3 + 2] |= np.bitwise_or.reduce(off)
