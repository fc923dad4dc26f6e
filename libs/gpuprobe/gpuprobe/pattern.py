"""What memory is filled with, and whose value a wrong word is: the hash is a bijection and is undone."""

from collections.abc import Iterator

MASK = 0xFFFFFFFF
WORDS = 4
"""Words of a vector; memory is taken a vector at a time."""

FAR = 0x9E3779B9
ODD = (1, 0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35)
SALT = (None, 0x7F4A7C15, 0x94D049BB, 0x2545F491)
INVERSE = 0xFFFFFFFF
"""``flip`` of the inverse polarity; 0 leaves a pattern as it is."""

_BACK = tuple(pow(odd, -1, 1 << 32) for odd in ODD)


def mix32(x: int) -> int:
    """Return the 32-bit mix of ``common.h``."""
    x ^= x >> 16
    x = x * 0x7FEB352D & MASK
    x ^= x >> 15
    x = x * 0x846CA68B & MASK
    return x ^ x >> 16


def unmix32(x: int) -> int:
    """Return what ``mix32`` makes ``x`` of."""
    x ^= x >> 16
    x = x * pow(0x846CA68B, -1, 1 << 32) & MASK
    x ^= x >> 15 ^ x >> 30
    x = x * pow(0x7FEB352D, -1, 1 << 32) & MASK
    return x ^ x >> 16


def key(seed: int, round_number: int) -> int:
    """Return the key of a round's hash."""
    return mix32((seed + round_number * FAR) & MASK) ^ mix32(seed >> 32 & MASK)


def hashed(word: int, key_: int, flip: int) -> int:
    """Return what ``word`` must hold."""
    vector, lane = divmod(word, WORDS)
    h = mix32((vector + (vector >> 32) * FAR + key_) & MASK)
    return (h * ODD[lane] + _offset(lane, key_)) & MASK ^ flip


def homes(value: int, lane: int, words: int, key_: int, flip: int) -> Iterator[int]:
    """Yield the words of this lane, below ``words``, that should hold ``value``."""
    h = ((value ^ flip) - _offset(lane, key_)) * _BACK[lane] & MASK
    vectors = words // WORDS
    for high in range((vectors >> 32) + 1):
        vector = (high << 32) + ((unmix32(h) - high * FAR - key_) & MASK)
        if vector < vectors:
            yield vector * WORDS + lane


def _offset(lane: int, key_: int) -> int:
    salt = SALT[lane]
    return 0 if salt is None else key_ ^ salt
