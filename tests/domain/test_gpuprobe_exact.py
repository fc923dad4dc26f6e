"""The exact product: the same on every device, verified in one pass, and told from any that is wrong."""

from typing import Any

import numpy as np
import pytest
from gpuprobe import digest, golden, operands, source
from gpuprobe.backend import Backend
from gpuprobe.exact import EXACT_MAX, Exact, Look, Shape, sums_exactly
from gpuprobe.fault import Fault
from gpuprobe.golden import MADE, SEEDS
from gpuprobe.on_numpy import NumpyBackend
from gpuprobe.operands import RANGES
from gpuprobe.product import KINDS
from gpuprobe.struck import Struck
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.domain.probing import BACKENDS, opened

pytestmark = pytest.mark.slow

BACKEND = NumpyBackend()
SHAPE = Shape(128, 64, 128)
seeds = st.integers(0, 2**31 - 1)
rows = st.integers(0, SHAPE.rows - 1)
cols = st.integers(0, SHAPE.cols - 1)


def posed(kind: str = "bf16", seed: int = 1, backend: Backend = BACKEND, shape: Shape = SHAPE) -> Exact:
    exact = Exact(backend, KINDS[kind], shape, seed)
    exact.multiply()
    return exact


def look(exact: Exact) -> Look:
    exact.begin_verifying()
    exact.verify()
    return exact.looks()[0]


def patterns(exact: Exact) -> np.ndarray:
    flat = np.asarray(exact.products[0])
    return flat.view(np.uint64 if flat.itemsize == 8 else np.uint32).reshape(SHAPE.rows, SHAPE.cols)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_product_has_the_digest_that_numpy_made_before(name: str, kind: str) -> None:
    backend = opened(name)
    with backend.here():
        for seed in SEEDS:
            exact = posed(kind, seed, backend, Shape(256, 1024, 256))
            assert look(exact) == Look((), golden=True)


@pytest.mark.parametrize("made", [m for m in MADE if m.rows <= 512], ids=str)
def test_the_digests_kept_are_those_that_numpy_makes(made: golden.Made) -> None:
    for seed in SEEDS:
        kept = golden.find(made.family, seed, made.inner, made.cols, made.rows // golden.STRIPE)
        assert kept is not None
        assert [
            f"{int(s):016x}:{int(x):08x}" for s, x in zip(kept.sums, kept.xors, strict=True)
        ] == list(golden.make(made, seed))


@pytest.mark.long
@pytest.mark.parametrize("made", [m for m in MADE if m.rows > 512], ids=str)
def test_the_large_digests_kept_are_those_that_numpy_makes(made: golden.Made) -> None:
    kept = golden.find(made.family, SEEDS[0], made.inner, made.cols, made.rows // golden.STRIPE)
    assert kept is not None
    made_now = list(golden.make(made, SEEDS[0]))
    assert [
        f"{int(s):016x}:{int(x):08x}" for s, x in zip(kept.sums, kept.xors, strict=True)
    ] == made_now


@given(seeds, st.sampled_from(list(KINDS)))
@settings(max_examples=30, deadline=None)
def test_a_sound_product_is_never_called_wrong(seed: int, kind: str) -> None:
    assert look(posed(kind, seed)).right


@pytest.mark.parametrize("kind", KINDS)
def test_every_single_flipped_bit_is_found_in_its_row_and_column(kind: str) -> None:
    exact = posed(kind, 9)
    sound = patterns(exact).copy()
    bits = 64 if kind == "fp64" else 32
    for bit in range(bits):
        row, col = (bit * 37) % SHAPE.rows, (bit * 53) % SHAPE.cols
        patterns(exact)[row, col] ^= sound.dtype.type(1 << bit)
        assert look(exact).rows == (row,)
        assert exact.wrong_elements((row,)) == [(row, col, 1 << bit)]
        patterns(exact)[row, col] = sound[row, col]
    assert look(exact).right


@given(seeds, st.sets(rows, min_size=1, max_size=20), st.integers(0, 31))
@settings(max_examples=20, deadline=None)
def test_all_wrong_rows_are_named(seed: int, wrong: set[int], bit: int) -> None:
    exact = posed(seed=seed)
    for row in wrong:
        patterns(exact)[row, row] ^= np.uint32(1 << bit)
    assert look(exact).rows == tuple(sorted(wrong))


@given(seeds, rows, cols, st.integers(0, SHAPE.inner - 1), st.sampled_from(list(KINDS)))
@settings(max_examples=20, deadline=None)
def test_one_multiplication_left_out_is_found(
    seed: int, row: int, col: int, inner: int, kind: str
) -> None:
    exact = posed(kind, seed)
    Struck(exact, [Fault(kind="drop", row=row, col=col, inner=inner)]).after(0, 0)
    assert look(exact).rows == (row,)


@given(seeds, rows, st.integers(1, 1_000))
@settings(max_examples=20, deadline=None)
def test_errors_that_cancel_in_the_sum_of_a_row_are_found(seed: int, row: int, by: int) -> None:
    exact = posed(seed=seed)
    product = exact.products[0].reshape(SHAPE.rows, SHAPE.cols)
    product[row, 0] += np.float32(by * 2.0**16)
    product[row, 1] -= np.float32(by * 2.0**16)
    assert look(exact).rows == (row,)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.0, 2.0**-20, 3e38, 1e-45])
def test_what_is_no_integer_in_range_is_wrong(value: float) -> None:
    exact = posed()
    exact.products[0].reshape(SHAPE.rows, SHAPE.cols)[5, 5] = value
    assert look(exact).rows == (5,)


def test_a_digest_tells_products_whose_rows_have_the_right_sums() -> None:
    exact = posed(seed=1, shape=Shape(128, 256, 128))
    assert look(exact).golden is True
    exact._golden = golden.Golden(exact._golden.sums + np.uint64(1), exact._golden.xors)  # type: ignore[union-attr]
    assert look(exact) == Look((), golden=False)
    assert not look(exact).right


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("times", [1, 3, 5])
def test_several_passes_add_up_and_one_wrong_product_among_them_shows(name: str, times: int) -> None:
    backend = opened(name)
    with backend.here():
        exact = posed(seed=1, backend=backend, shape=Shape(128, 256, 128))
        exact.begin_verifying()
        for _ in range(times):
            exact.verify()
        assert exact.looks(times=times) == [Look((), golden=True)]
        Struck(exact, [Fault(row=7, col=9, mask=4)]).after(0, 0)
        exact.verify()
        exact.multiply()
        exact.verify()
        assert exact.looks(times=times + 2) == [Look((7,), golden=False)]


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(("side", "level"), [("left", 0), ("right", 1)])
def test_an_operand_that_changed_in_memory_is_named(name: str, side: str, level: int) -> None:
    backend = opened(name)
    with backend.here():
        exact = posed(backend=backend)
        assert exact.operand_errors() == []
        place = {"row": 17} if level == 0 else {"col": 17}
        struck = Struck(exact, [Fault(kind="operand", inner=5, mask=0x41, level=level, **place)])  # type: ignore[arg-type]
        struck.before(0)
        assert struck.held
        assert exact.operand_errors() == [(side, 1, 17, 5, 0x41)]
        exact.multiply()
        assert look(exact).rows == ((17,) if level == 0 else tuple(range(SHAPE.rows)))
        struck.before(1)
        assert exact.operand_errors() == []
        exact.multiply()
        assert look(exact).right


def test_no_sum_leaves_the_range_of_exact_integers() -> None:
    for kind in KINDS.values():
        longest = (EXACT_MAX[kind.family] - 1) // RANGES[kind.family].magnitude ** 2
        assert sums_exactly(kind, longest)
        assert not sums_exactly(kind, longest + 1)
    ones = np.full((1, 8_284), 45, np.float32)
    assert int((ones @ ones.T)[0, 0]) == 45**2 * 8_284 < 2**24
    with pytest.raises(AssertionError, match="would not be exact"):
        Exact(BACKEND, KINDS["bf16"], Shape(128, 8_288, 64), 1)


def test_operands_are_signed_never_zero_and_use_all_of_their_range() -> None:
    values = operands.integers(3, np.arange(256, dtype=np.uint32), 256, 45)
    assert set(np.unique(np.abs(values))) == set(range(1, 46))
    assert abs(float(np.sign(values).mean())) < 0.02
    exponents = operands.scales(4, np.arange(4_096, dtype=np.uint32), 8)
    assert set(np.unique(exponents)) == set(range(-8, 9))
    weights = operands.weights(5, 1_000)
    assert set(np.unique(weights & 1)) == {1}
    assert int(weights.max()) < 2**31


def of_rows(patterns: Any, first: int = 0) -> tuple[int, int]:
    rows, cols = patterns.shape
    keys = digest.row_keys(7, np.arange(first, first + rows, dtype=np.uint32))
    return digest.of_rows(patterns, digest.column_keys(7, cols), keys)


@given(
    st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 159), st.integers(0, 10_000)
)
def test_one_changed_word_always_changes_the_digest(
    before: int, after: int, place: int, row: int
) -> None:
    words = [np.zeros((2, 160), np.uint32) for _ in range(2)]
    words[0][1, place], words[1][1, place] = before, after
    assert (of_rows(words[0], row)[0] == of_rows(words[1], row)[0]) == (before == after)
    one, other = (digest.of_words(each.reshape(-1), 7) for each in words)
    assert (one[0] == other[0]) == (before == after)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 159))
def test_one_changed_number_of_64_bits_changes_the_digest_as_well(
    before: int, after: int, place: int
) -> None:
    words = [np.zeros((1, 160), np.uint64) for _ in range(2)]
    words[0][0, place], words[1][0, place] = before, after
    assert (of_rows(words[0])[0] == of_rows(words[1])[0]) == (before == after)


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_two_equal_flips_of_any_bit_do_not_cancel_each_other(dtype: Any) -> None:
    drawn = np.random.default_rng(5)
    sound = drawn.integers(0, 2**32, (64, 160)).astype(dtype)
    before = of_rows(sound)[0]
    for bit in range(8 * sound.dtype.itemsize):
        for _ in range(20):
            words = sound.copy()
            places = drawn.choice(words.size, 2, replace=False)
            words.reshape(-1)[places] ^= dtype(1 << bit)
            assert of_rows(words)[0] != before, bit


def test_words_that_changed_places_have_another_digest() -> None:
    words = np.arange(1, 321, dtype=np.uint32).reshape(2, 160)
    for moved in (words[::-1], words[:, ::-1], np.roll(words, 1, axis=1)):
        assert of_rows(np.ascontiguousarray(moved))[0] != of_rows(words)[0]
    assert digest.of_words(words[0, ::-1], 7)[0] != digest.of_words(words[0], 7)[0]


def test_the_operands_of_two_seeds_differ() -> None:
    assert operands.salts(1) != operands.salts(2)
    assert len({*vars(operands.salts(1)).values()}) == 6
    assert operands.salts(2**33) != operands.salts(0)


def test_the_kernels_of_the_product_are_those_that_kinds_name() -> None:
    assert {kind.verify for kind in KINDS.values()} <= set(source.kernels())
    assert [kind.code for kind in KINDS.values()] == list(range(len(KINDS)))
