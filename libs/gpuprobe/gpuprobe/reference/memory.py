"""The patterns of ``memory.cu``."""

from typing import Any

import numpy as np

from gpuprobe.pattern import FAR, ODD, SALT
from gpuprobe.reference.grid import Grid
from gpuprobe.reference.log import note

_U32 = np.uint32
_PHASES = np.uint64(20)
_LINE = np.uint64(32)
"""Words of a line."""


def _mix(x: Any) -> Any:
    x = x ^ x >> _U32(16)
    x = x * _U32(0x7FEB352D)
    x = x ^ x >> _U32(15)
    x = x * _U32(0x846CA68B)
    return x ^ x >> _U32(16)


def _hashed(vectors: Any, key: int, flip: int) -> Any:
    """Return what the vectors hold: uint32[word]; ``vectors`` uint64[n]."""
    low = (vectors + (vectors >> np.uint64(32)) * np.uint64(FAR) + np.uint64(key)).astype(_U32)
    h = _mix(low)
    lanes = [
        h * _U32(odd) + _U32(0 if salt is None else key ^ salt)
        for odd, salt in zip(ODD, SALT, strict=True)
    ]
    return (np.stack(lanes, axis=1) ^ _U32(flip)).ravel()


def _modulo(vectors: Any, pattern: int, phase: int) -> Any:
    others = np.where(_spared(vectors, phase), _U32(pattern), ~_U32(pattern))
    return np.where(_places(vectors) % _PHASES == phase, ~others, others)


def _spared(vectors: Any, phase: int) -> Any:
    return _places(vectors) // _LINE % _PHASES == phase


def _walking(vectors: Any, step: int, flip: int) -> Any:
    bits = (_places(vectors) + np.uint64(step)) & np.uint64(31)
    return (_U32(1) << bits.astype(_U32)) ^ _U32(flip)


def _vectors(first: int, count: int) -> Any:
    return np.arange(first, first + count, dtype=np.uint64)


def _places(vectors: Any) -> Any:
    return (vectors[:, None] * np.uint64(4) + np.arange(4, dtype=np.uint64)).ravel()


def _fill(words: Any, first: int, count: int, values: Any) -> None:
    words[first * 4 : (first + count) * 4] = values


def _check(words: Any, first: int, count: int, values: Any, log: Any, tag: int) -> None:
    note(log, _places(_vectors(first, count)), values, words[first * 4 : (first + count) * 4], tag)


def fill_hash(_: Grid, words: Any, first: int, count: int, key: int, flip: int) -> None:
    """Write the hash of each place, or its inverse."""
    _fill(words, first, count, _hashed(_vectors(first, count), key, flip))


def check_hash(
    _: Grid, words: Any, first: int, count: int, key: int, flip: int, log: Any, tag: int
) -> None:
    """Log each word that is not the hash of its place."""
    _check(words, first, count, _hashed(_vectors(first, count), key, flip), log, tag)


def turn_hash(
    _: Grid, words: Any, first: int, count: int, key: int, flip: int, down: int, log: Any, tag: int
) -> None:
    """Log what is not the hash of its place, and write the inverse."""
    del down  # one slice at once: which way makes no difference
    values = _hashed(_vectors(first, count), key, flip)
    _check(words, first, count, values, log, tag)
    _fill(words, first, count, ~values)


def turn_l2(
    grid: Grid, words: Any, first: int, count: int, key: int, flip: int, down: int, log: Any, tag: int
) -> None:
    """Do what ``turn_hash`` does: what a host's caches do is not ours to say."""
    turn_hash(grid, words, first, count, key, flip, down, log, tag)


def fill_modulo(_: Grid, words: Any, first: int, count: int, pattern: int, phase: int) -> None:
    """Write the pattern into every twentieth word, its inverse into all others; inverted in every twentieth line."""
    _fill(words, first, count, _modulo(_vectors(first, count), pattern, phase))


def disturb_modulo(_: Grid, words: Any, first: int, count: int, pattern: int, phase: int) -> None:
    """Write all but every twentieth line once more."""
    vectors = _vectors(first, count)
    again = ~_spared(vectors, phase)
    words[first * 4 : (first + count) * 4][again] = _modulo(vectors, pattern, phase)[again]


def check_modulo(
    _: Grid, words: Any, first: int, count: int, pattern: int, phase: int, log: Any, tag: int
) -> None:
    """Log what is neither the pattern nor its inverse, where each belongs."""
    _check(words, first, count, _modulo(_vectors(first, count), pattern, phase), log, tag)


def fill_walking(_: Grid, words: Any, first: int, count: int, step: int, flip: int) -> None:
    """Write a word of one bit (or all but one), a place further from word to word."""
    _fill(words, first, count, _walking(_vectors(first, count), step, flip))


def check_walking(
    _: Grid, words: Any, first: int, count: int, step: int, flip: int, log: Any, tag: int
) -> None:
    """Log each word whose bit is not the one."""
    _check(words, first, count, _walking(_vectors(first, count), step, flip), log, tag)
