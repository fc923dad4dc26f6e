"""The march of ``sram.cu``: on the host a block is its own multiprocessor."""

from typing import Any

import numpy as np

from gpuprobe.pattern import FAR, INVERSE, MASK
from gpuprobe.reference.grid import Grid
from gpuprobe.reference.log import note
from gpuprobe.reference.memory import _mix

_READS = (None, 0, 1, 0, 1, 0)
_WRITES = (0, 1, 0, 1, 0, None)


def shared_march(
    grid: Grid,
    cells: int,
    rounds: int,
    key: int,
    hit_sm: int,
    hit_cell: int,
    hit_mask: int,
    hit_always: int,
    seen: Any,
    seen_max: int,
    log: Any,
) -> None:
    """March over each block's cells; one cell of one block is hit where that is asked for."""
    places = np.arange(cells, dtype=np.uint64)
    for sm in range(grid.blocks):
        if sm < seen_max:
            seen[sm] += 1
        shared = np.zeros(cells, np.uint32)
        for number in range(rounds):
            base = _mix((places + np.uint64((key + number * FAR) & MASK)).astype(np.uint32))
            for element, (read, write) in enumerate(zip(_READS, _WRITES, strict=True)):
                if read is not None:
                    expected = base ^ np.uint32(INVERSE if read else 0)
                    note(log, places, expected, shared, number * 6 + element, sm)
                if write is not None:
                    shared = base ^ np.uint32(INVERSE if write else 0)
                    if sm == hit_sm and hit_cell < cells and (hit_always or number == element == 0):
                        shared[hit_cell] ^= np.uint32(hit_mask)
