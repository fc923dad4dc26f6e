"""The exact matrix product: every flipped bit is found in its row, and nothing else ever is."""

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from gpuprobe import __main__ as command
from gpuprobe import gemm
from gpuprobe.backend import Backend, NoDevice
from gpuprobe.fault import Fault, FaultUnusable, parse_fault
from gpuprobe.gemm_check import PROBE, ROWS_NAMED_MAX, Size
from gpuprobe.levels import Wish, run
from gpuprobe.on_cuda import CudaBackend
from gpuprobe.on_numpy import NumpyBackend
from gpuprobe.probe import Setting, check
from gpuprobe.verdict import Check
from hypothesis import given, settings
from hypothesis import strategies as st

BACKEND = NumpyBackend()
SHAPE = gemm.Shape(24, 40, 16)
SIZE = Size(SHAPE, rounds=2)
seeds = st.integers(0, 2**31 - 1)
shapes = st.builds(gemm.Shape, st.integers(1, 12), st.integers(2, 64), st.integers(1, 12))


def check_gemm(backend: Backend, size: Size, seed: int, faults: Sequence[Fault] = ()) -> Check:
    return check(PROBE, Setting(backend=backend, seed=seed, faults=faults), size)


@given(shapes, seeds)
def test_a_sound_product_is_never_called_wrong(shape: gemm.Shape, seed: int) -> None:
    problem = gemm.pose(BACKEND, shape, seed)
    assert gemm.wrong_rows(BACKEND, problem, gemm.multiply(BACKEND, problem)) == []


def test_the_longest_exact_sum_is_exact_at_its_extreme() -> None:
    ones = np.full((1, gemm.INNER_MAX), gemm.OPERAND_MAX, np.float32)
    assert int((ones @ ones.T)[0, 0]) == gemm.OPERAND_MAX**2 * gemm.INNER_MAX < gemm.EXACT_MAX
    with pytest.raises(AssertionError):
        gemm.Shape(1, gemm.INNER_MAX + 1, 1)
    assert all(size.shape.inner <= gemm.INNER_MAX for size in PROBE.sizes.values())


@given(seeds, st.integers(0, 23), st.integers(0, 15))
@settings(max_examples=60)
def test_every_single_flipped_bit_of_an_element_is_found_in_its_row(
    seed: int, row: int, col: int
) -> None:
    problem = gemm.pose(BACKEND, SHAPE, seed)
    sound = gemm.multiply(BACKEND, problem)
    for bit in range(32):
        product = sound.copy()
        Fault(row=row, col=col, mask=1 << bit).hit(product)
        assert gemm.wrong_rows(BACKEND, problem, product) == [row]
        assert gemm.wrong_elements(BACKEND, problem, product, row) == [(col, 1 << bit)]


@given(seeds, st.sets(st.integers(0, 23), min_size=1), st.integers(0, 31))
def test_all_wrong_rows_are_named(seed: int, rows: set[int], bit: int) -> None:
    problem = gemm.pose(BACKEND, SHAPE, seed)
    product = gemm.multiply(BACKEND, problem).copy()
    for row in rows:
        Fault(row=row, col=row % SHAPE.cols, mask=1 << bit).hit(product)
    assert gemm.wrong_rows(BACKEND, problem, product) == sorted(rows)


@given(seeds, st.integers(0, 23), st.integers(0, 15), st.integers(0, 39))
def test_one_multiplication_left_out_is_found(seed: int, row: int, col: int, inner: int) -> None:
    problem = gemm.pose(BACKEND, SHAPE, seed)
    product = gemm.multiply(BACKEND, problem).copy()
    product[row, col] -= problem.left[row, inner] * problem.right[inner, col]
    assert gemm.wrong_rows(BACKEND, problem, product) == [row]


@given(seeds, st.integers(0, 23), st.integers(1, 1_000))
def test_errors_that_cancel_in_the_sum_of_a_row_are_found(seed: int, row: int, by: int) -> None:
    problem = gemm.pose(BACKEND, SHAPE, seed)
    product = gemm.multiply(BACKEND, problem).copy()
    product[row, 0] += by
    product[row, 1] -= by
    assert gemm.wrong_rows(BACKEND, problem, product) == [row]


def test_two_that_are_wrong_by_the_same_high_bit_do_not_cancel() -> None:
    for seed in range(2_000):
        problem = gemm.pose(BACKEND, gemm.Shape(1, 2, 2), seed)
        product = gemm.multiply(BACKEND, problem).copy()
        product += np.float32(2**22)
        assert gemm.wrong_rows(BACKEND, problem, product) == [0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.0, 0.5, 2.0**24 + 2, 3e38])
def test_what_is_no_integer_in_range_is_wrong(value: float) -> None:
    problem = gemm.pose(BACKEND, SHAPE, 1)
    product = gemm.multiply(BACKEND, problem).copy()
    product[5, 5] = value
    assert gemm.wrong_rows(BACKEND, problem, product) == [5]


def test_a_fault_that_is_there_every_time_is_found_though_the_results_agree() -> None:
    fault = Fault(row=17, col=3, mask=1 << 5, persistent=True)
    check = check_gemm(BACKEND, SIZE, seed=7, faults=[fault])
    assert check.verdict == "fail"
    assert check.evidence["row"] == 17
    assert check.evidence["col"] == 3
    assert check.evidence["bits"] == [5]
    assert check.evidence["rounds_wrong"] == SIZE.rounds
    assert check.action is not None


def test_a_passing_fault_shows_in_one_round_and_says_that_it_was_injected() -> None:
    check = check_gemm(BACKEND, SIZE, seed=7, faults=[Fault(row=2, col=3, mask=1 << 30)])
    assert (check.verdict, check.evidence["rounds_wrong"], check.evidence["injected"]) == ("fail", 1, 1)
    assert "injected on purpose" in check.detail


def test_the_evidence_stays_small_however_much_is_wrong() -> None:
    size = Size(gemm.Shape(ROWS_NAMED_MAX * 2, 8, 4), rounds=1)
    faults = [Fault(row=row, col=0, mask=1 << 1) for row in range(ROWS_NAMED_MAX * 2)]
    evidence = check_gemm(BACKEND, size, seed=1, faults=faults).evidence
    assert evidence["rows"] == list(range(ROWS_NAMED_MAX))
    assert evidence["rows_wrong"] == ROWS_NAMED_MAX * 2


def test_only_the_device_that_is_hit_fails() -> None:
    checks = run(
        [0, 1],
        seed=3,
        wish=Wish(backend="numpy", only=["gemm"], faults=[Fault(row=1, col=1, device=1)]),
    )
    assert [(check.device, check.verdict) for check in checks] == [(0, "pass"), (1, "fail")]


def test_the_devices_of_a_server_share_what_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, int]] = []
    real = gemm._operand

    def counted(chance: np.random.Generator, rows: int, cols: int) -> object:
        drawn.append((rows, cols))
        return real(chance, rows, cols)

    monkeypatch.setattr(gemm, "_operand", counted)
    checks = run(range(8), seed=20261125, wish=Wish(backend="numpy", only=["gemm"]))
    assert {check.verdict for check in checks} == {"pass"}
    assert len(drawn) == 2


def test_a_fault_outside_of_the_product_is_inconclusive_never_a_pass() -> None:
    check = check_gemm(BACKEND, SIZE, seed=1, faults=[Fault(row=24, col=0, mask=1 << 0)])
    assert check.verdict == "inconclusive"
    assert "24 by 16" in check.detail


@pytest.mark.parametrize(
    "text",
    ["", "row=1", "row=1,col=2", "row=x,col=1,bit=2", "row=-1,col=1,bit=2", "row=1,col=2,bit=3,often"],
)
def test_a_fault_that_is_not_understood_says_what_to_write(text: str) -> None:
    with pytest.raises(FaultUnusable, match="write row=17"):
        parse_fault(text)


def test_a_described_fault_is_read() -> None:
    assert parse_fault("row=17,col=3,bit=5,device=1,persistent") == Fault(
        row=17, col=3, mask=32, device=1, persistent=True
    )


def test_operands_are_small_signed_and_never_zero() -> None:
    problem = gemm.pose(BACKEND, gemm.Shape(64, 128, 64), 11)
    for operand in (problem.left, problem.right):
        assert set(np.unique(np.abs(operand))) == set(range(1, gemm.OPERAND_MAX + 1))
        assert abs(float(np.sign(operand).mean())) < 0.1
    assert set(np.unique(problem.multipliers & 1)) == {1}


class Elsewhere:
    """An array module whose device is another memory: what is not put or fetched is a mistake."""

    class Array(np.ndarray):
        """An array over there."""

    class cuda:  # noqa: N801
        current: list[int] = []  # noqa: RUF012

        class Device:
            def __init__(self, index: int) -> None:
                self.index = index

            def __enter__(self) -> None:
                Elsewhere.cuda.current.append(self.index)

            def __exit__(self, *_: object) -> None:
                Elsewhere.cuda.current.pop()

    def __getattr__(self, name: str) -> object:
        return getattr(np, name)

    def asarray(self, host: np.ndarray) -> "Elsewhere.Array":
        assert Elsewhere.cuda.current == [1]
        return host.view(Elsewhere.Array)

    def asnumpy(self, array: np.ndarray) -> np.ndarray:
        return array.view(np.ndarray)

    def matmul(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        assert isinstance(left, Elsewhere.Array)
        assert isinstance(right, Elsewhere.Array)
        return np.matmul(left, right)


def test_the_same_check_runs_on_another_devices_arrays() -> None:
    backend = CudaBackend(1, Elsewhere())
    assert check_gemm(backend, SIZE, seed=7).verdict == "pass"
    fault = Fault(row=17, col=3, mask=1 << 5, device=1, persistent=True)
    failed = check_gemm(backend, SIZE, seed=7, faults=[fault])
    assert (failed.verdict, failed.backend, failed.device) == ("fail", "cupy", 1)
    assert (failed.evidence["row"], failed.evidence["col"]) == (17, 3)
    assert "NumPy" not in check_gemm(backend, SIZE, seed=7).detail


@pytest.fixture
def no_gpu() -> Iterator[None]:
    try:
        CudaBackend.open(0)
    except NoDevice:
        yield
    else:
        pytest.skip("this machine has a GPU")


def test_the_command_says_which_backend_judged_and_ends_by_the_verdict(
    no_gpu: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--json", "--seed", "5"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["level"], told["verdict"]) == ("quick", "pass")
    assert told["checks"][0]["backend"] == "numpy"
    assert "NumPy references" in told["checks"][0]["detail"]

    assert command.main(["--inject", "row=17,col=3,bit=5"]) == 1
    assert "row 17, column 3" in capsys.readouterr().out
    assert command.main(["--backend", "cupy"]) == 3
    assert "inconclusive" in capsys.readouterr().out


def test_a_device_that_breaks_in_its_own_way_is_inconclusive_and_says_how() -> None:
    class CompileException(Exception):
        """What a GPU's compiler raises: no RuntimeError."""

    class Broken(Elsewhere):
        def matmul(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
            raise CompileException("no headers")

    check = check_gemm(CudaBackend(1, Broken()), SIZE, seed=7)
    assert (check.verdict, check.backend, check.device) == ("inconclusive", "cupy", 1)
    assert "CompileException: no headers" in check.detail


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seed", "-1"], "--seed: -1 is below 0"),
        (["--inject", "row=1,col=1,bit=1,device=3"], "device 3 is not checked; add --device 3"),
    ],
)
def test_a_command_line_that_would_check_something_else_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        command.main(arguments)
    assert refused.value.code == 2
    assert said in capsys.readouterr().err
