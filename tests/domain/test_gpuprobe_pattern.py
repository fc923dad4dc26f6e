"""The hash of an address: the same by hand, in the reference and in the source, and undone."""

import numpy as np
from gpuprobe import pattern, source
from gpuprobe.reference.memory import _hashed
from hypothesis import given
from hypothesis import strategies as st

from tests.domain.probing import opened


def test_the_hash_of_far_addresses_is_the_same_in_the_source_the_reference_and_by_hand() -> None:
    """Addresses beyond 2^32 words: nobody has so much memory here, so the arrays only pretend."""
    vectors = np.array([0, 1, 2**30, 2**32 - 1, 2**32, 2**33 + 5], np.uint64)
    by_reference = _hashed(vectors, 0xCAFEBABE, pattern.INVERSE).reshape(-1, 4)
    by_hand = [
        [pattern.hashed(int(v) * 4 + lane, 0xCAFEBABE, pattern.INVERSE) for lane in range(4)]
        for v in vectors
    ]
    assert by_reference.tolist() == by_hand

    first, count = 2**32 - 4, 9
    words = np.zeros(count * 4, np.uint32)
    # The source is told that its memory begins where these places would be its last ones.
    pretended = words.ctypes.data - first * 16
    opened("host").launch("fill_hash", pretended, first, count, 0xCAFEBABE, 0)
    assert words.tolist() == [
        pattern.hashed(word, 0xCAFEBABE, 0) for word in range(first * 4, (first + count) * 4)
    ]


@given(st.integers(0, 2**32 - 1))
def test_the_mix_is_undone(x: int) -> None:
    assert pattern.unmix32(pattern.mix32(x)) == x


@given(st.integers(0, 2**35), st.integers(0, 2**32 - 1), st.sampled_from([0, pattern.INVERSE]))
def test_a_value_is_led_home(word: int, key: int, flip: int) -> None:
    value = pattern.hashed(word, key, flip)
    assert word in set(pattern.homes(value, word % 4, 2**35 + 4, key, flip))


def test_the_constants_of_the_source_are_those_of_the_reference() -> None:
    for number in (pattern.FAR, *pattern.ODD[1:], *pattern.SALT[1:]):
        assert number is not None
        assert f"{number:#x}u" in source.text("memory")
