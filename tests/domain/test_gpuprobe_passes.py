"""The passes over memory: the source on every device writes and finds what its reference does."""

import numpy as np
import pytest
from gpuprobe import pattern
from gpuprobe.backend import Backend
from gpuprobe.on_numpy import NumpyBackend
from gpuprobe.wrongs import LOG_EACH, Log, clean, wrongs

from tests.domain.probing import BACKENDS, opened


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return opened(request.param)


@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("hash", (0xDEADBEEF, 0)),
        ("hash", (7, pattern.INVERSE)),
        ("modulo", (0x12345678, 17)),
        ("walking", (9, 0)),
    ],
)
def test_the_source_fills_as_its_reference_does(
    kind: str, numbers: tuple[int, int], first: int
) -> None:
    theirs = np.zeros(4 * 1_100, np.uint32)
    NumpyBackend().launch(f"fill_{kind}", theirs, first, 1_001, *numbers)
    assert len(np.unique(theirs[4 * first : 4 * (first + 1_001)])) > 1
    for backend in map(opened, BACKENDS):
        ours = backend.put(np.zeros(4 * 1_100, np.uint32))
        backend.launch(f"fill_{kind}", ours, first, 1_001, *numbers)
        assert np.array_equal(backend.fetch(ours), theirs)


@pytest.mark.parametrize(
    ("kernel", "numbers"),
    [
        ("check_hash", (0xDEADBEEF, 0)),
        ("check_modulo", (0x12345678, 17)),
        ("check_walking", (9, 0)),
        ("turn_hash", (0xDEADBEEF, 0, 0)),
        ("turn_hash", (0xDEADBEEF, 0, 1)),
        ("turn_l2", (0xDEADBEEF, pattern.INVERSE, 1)),
    ],
)
def test_the_source_finds_what_its_reference_finds(kernel: str, numbers: tuple[int, ...]) -> None:
    kind = kernel.replace("turn_l2", "turn_hash").partition("_")[2]
    found, after = [], []
    for backend in map(opened, BACKENDS):
        words = backend.put(np.zeros(4 * 997, np.uint32))
        backend.launch(f"fill_{kind}", words, 0, 997, *numbers[:2])
        backend.launch("strike_flip", words, 1_234, 7, 3, 0x80000101)
        log = Log(backend)
        backend.launch(kernel, words, 0, 997, *numbers, log.array, 6)
        found.append(log.read())
        after.append(backend.fetch(words))
    for each, words in zip(found, after, strict=True):
        assert [(e.where, e.expected, e.found) for e in each.examples] == [
            (e.where, e.expected, e.found) for e in found[0].examples
        ]
        assert (each.count, each.first, each.bits) == (3, 1_234, 0x80000101)
        assert [(e.where, e.mask, e.tag) for e in each.examples] == [
            (1_234 + 7 * n, 0x80000101, 6) for n in range(3)
        ]
        assert np.array_equal(words, after[0])


def test_every_twentieth_word_and_every_twentieth_line_are_the_inverse_of_what_is_beside_them() -> None:
    words = np.zeros(2_000, np.uint32)
    NumpyBackend().launch("fill_modulo", words, 0, 500, 0xF0F0F0F0, 13)
    assert words[:32].tolist() == [0xF0F0F0F0 if word == 13 else 0x0F0F0F0F for word in range(32)]
    turned = words[13 * 32 : 14 * 32].tolist()
    assert turned == [0x0F0F0F0F if word % 20 == 13 else 0xF0F0F0F0 for word in range(416, 448)]
    assert np.array_equal(words[: 20 * 32], words[20 * 32 : 40 * 32])


@pytest.mark.parametrize("phase", [0, 13, 19])
def test_disturbing_writes_whole_lines_once_more_and_spares_every_twentieth(phase: int) -> None:
    for backend in map(opened, BACKENDS):
        device = backend.put(np.full(4 * 500, 3, np.uint32))
        filled = backend.put(np.zeros(4 * 500, np.uint32))
        backend.launch("disturb_modulo", device, 0, 500, 0xF0F0F0F0, phase)
        backend.launch("fill_modulo", filled, 0, 500, 0xF0F0F0F0, phase)
        words, wanted = backend.fetch(device), backend.fetch(filled)
        spared = np.arange(2_000) // 32 % 20 == phase
        assert set(words[spared]) == {3}
        assert np.array_equal(words[~spared], wanted[~spared])


@pytest.mark.parametrize("count", [65_537, 70_001])
def test_every_vector_is_reached_in_a_large_piece_of_memory(backend: Backend, count: int) -> None:
    words, log = backend.put(np.zeros(4 * (count + 1), np.uint32)), Log(backend)
    backend.launch("fill_hash", words, 0, count, 9, 0)
    assert np.array_equal(backend.fetch(words)[4 * count :], np.zeros(4))
    backend.launch("turn_hash", words, 0, count, 9, 0, 1, log.array, 0)
    backend.launch("turn_hash", words, 0, count, 9, pattern.INVERSE, 0, log.array, 0)
    backend.launch("check_hash", words, 0, count, 9, 0, log.array, 0)
    assert log.read().count == 0
    backend.launch("fill_hash", words, 0, count, 8, 0)
    backend.launch("check_hash", words, 0, count, 9, 0, log.array, 0)
    assert log.read().count == 4 * count


def test_a_threads_examples_are_bounded_and_the_total_is_not(backend: Backend) -> None:
    words = backend.put(np.zeros(4 * 1_000, np.uint32))
    log = Log(backend)
    backend.launch("check_hash", words, 0, 1_000, 1, 0, log.array, 0)
    found = log.read()
    assert found.count == 4_000
    assert LOG_EACH <= len(found.examples) <= 256


def test_a_clean_log_says_nothing() -> None:
    assert wrongs(clean()).count == 0
    assert wrongs(clean()).examples == ()
