"""What every lane of a warp must come to in the sweep over multiprocessors, by NumPy.

Integers, float32, float64 and a matrix product; each chain is exact up to roundings that NumPy
makes the same way, so that one right answer is known before any device is asked.
"""

from typing import Any

import numpy as np

from gpuprobe.operands import mix32

UNITS = ("integer", "float32", "float64", "matrix")
LANES = 32
INNER = 16


def results(seed: int, rounds: int) -> Any:
    """Return what each lane comes to in each unit: uint32[unit, lane]."""
    lanes = np.arange(LANES, dtype=np.uint32)
    return np.stack(
        [
            _integers(seed, lanes, rounds),
            _singles(seed, lanes, rounds),
            _doubles(seed, lanes, rounds),
            _tiles(seed, rounds),
        ]
    )


def _integers(seed: int, lanes: Any, rounds: int) -> Any:
    x, total = mix32(np.uint32(seed) ^ lanes), np.zeros(LANES, np.uint32)
    for r in range(rounds):
        x = mix32(x + np.uint32(r))
        wide = x.astype(np.uint64) * (total | np.uint32(1))
        total += (wide >> np.uint64(32)).astype(np.uint32) ^ _turned(x, 7)
    return mix32(total)


def _singles(seed: int, lanes: Any, rounds: int) -> Any:
    one, fraction = np.uint32(0x3F800000), np.uint32(0x7FFFFF)
    word, total = mix32(np.uint32(seed) ^ lanes ^ np.uint32(0x51)), np.zeros(LANES, np.uint32)
    x = (one | (word & fraction)).view(np.float32)
    for r in range(rounds):
        word = mix32(word + np.uint32(r))
        factor = (one | (word & np.uint32(0x7FF000))).view(np.float32)
        more = (one | (word << np.uint32(8) & fraction)).view(np.float32)
        # Exact in float64 up to the one rounding: what a fused multiplication and addition does.
        y = (x.astype(np.float64) * factor + more).astype(np.float32).view(np.uint32)
        total = _turned(total, 5) + y
        x = (one | (y & fraction)).view(np.float32)
    return mix32(total)


def _doubles(seed: int, lanes: Any, rounds: int) -> Any:
    one, kept = np.uint64(0x3FF0000000000000), np.uint64(0x000FFFFFF8000000)
    word, total = mix32(np.uint32(seed) ^ lanes ^ np.uint32(0xD0)), np.zeros(LANES, np.uint32)
    x = (one | (word.astype(np.uint64) << np.uint64(20) & kept)).view(np.float64)
    for r in range(rounds):
        word = mix32(word + np.uint32(r))
        factor = (one | (word.astype(np.uint64) << np.uint64(21) & kept)).view(np.float64)
        low = mix32(word).astype(np.uint64) << np.uint64(20)
        more = (one | low | (word >> np.uint32(12)).astype(np.uint64)).view(np.float64)
        y = (x * factor + more).view(np.uint64)
        total = _turned(total, 5) + (y.astype(np.uint32) ^ (y >> np.uint64(32)).astype(np.uint32))
        x = (one | (y & kept)).view(np.float64)
    return mix32(total)


def _tiles(seed: int, rounds: int) -> Any:
    k, line = np.arange(INNER, dtype=np.uint32), np.arange(16, dtype=np.uint32)
    sums = np.zeros((16, 8), np.int64)
    for r in range(rounds):
        turn = np.uint32(r << 16)
        left = mix32(np.uint32(seed) ^ (turn | line[:, None] << np.uint32(8) | k))
        right = mix32(
            np.uint32(seed) ^ np.uint32(0x80000000) ^ (turn | k[:, None] << np.uint32(8) | line[:8])
        )
        sums += ((left % 31).astype(np.int64) - 15) @ ((right % 31).astype(np.int64) - 15)
    lanes = np.arange(LANES)
    folded = np.zeros(LANES, np.uint32)
    for i in range(4):
        row, col = (lanes >> 2) + (i >> 1) * 8, (lanes & 3) * 2 + (i & 1)
        folded = mix32(folded ^ sums[row, col].astype(np.float32).view(np.uint32))
    return folded


def _turned(words: Any, by: int) -> Any:
    return words << np.uint32(by) | words >> np.uint32(32 - by)
