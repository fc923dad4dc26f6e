"""The check ``gemm``: what it says of faults, that it says so in few words, and that slowness counts."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from gpuprobe import __main__ as command
from gpuprobe import product
from gpuprobe.backend import Backend, NoDevice
from gpuprobe.exact import Shape
from gpuprobe.fault import Fault, FaultUnusable, parse_fault
from gpuprobe.gemm_check import PROBE, ROWS_NAMED_MAX, Seen, Size, _judge
from gpuprobe.levels import Wish, run
from gpuprobe.on_cuda import CudaBackend
from gpuprobe.on_numpy import NumpyBackend
from gpuprobe.probe import Setting, check
from gpuprobe.product import KINDS
from gpuprobe.verdict import Check

from tests.domain.probing import BACKENDS, opened

BACKEND = NumpyBackend()
SHAPE = Shape(128, 256, 128)
SIZE = Size(("bf16",), {"float": SHAPE}, rounds=2)


def check_gemm(
    faults: Sequence[Fault] = (), *, size: Size = SIZE, backend: Backend = BACKEND, seed: int = 7
) -> Check:
    return check(PROBE, Setting(backend=backend, seed=seed, faults=faults), size)


@pytest.mark.parametrize("name", BACKENDS)
def test_sound_products_of_every_kind_pass_half_of_them_against_numpys_digests(name: str) -> None:
    size = Size(tuple(KINDS), {"float": Shape(256, 1024, 256)}, rounds=2)
    said = check_gemm(size=size, backend=opened(name))
    assert said.verdict == "pass", said
    assert (said.evidence["rounds"], said.evidence["rounds_golden"]) == (10, 5)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_fault_that_is_there_every_time_is_found_though_the_results_agree(name: str) -> None:
    said = check_gemm([Fault(row=17, col=3, mask=1 << 5, persistent=True)], backend=opened(name))
    assert said.verdict == "fail"
    assert (said.evidence["row"], said.evidence["col"], said.evidence["bits"]) == (17, 3, [5])
    assert said.evidence["rounds_wrong"] == SIZE.rounds
    assert said.evidence["part"] == "element"
    assert said.action is not None


def test_a_passing_fault_shows_in_one_round_and_says_that_it_was_injected() -> None:
    said = check_gemm([Fault(row=2, col=3, mask=1 << 30)])
    assert (said.verdict, said.evidence["rounds_wrong"], said.evidence["injected"]) == ("fail", 1, 1)
    assert "injected on purpose" in said.detail


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(row=9, col=5, mask=6, stride=32, count=4), {"part": "lanes", "stride": 32, "row": 9}),
        (Fault(kind="drop", row=9, col=5, inner=3), {"part": "element", "row": 9, "col": 5}),
        (
            Fault(kind="operand", row=9, inner=5, mask=64),
            {"part": "row", "operand": "left", "operand_line": 9, "operand_place": 5},
        ),
        (
            Fault(kind="operand", col=9, inner=5, mask=64, level=1),
            {"part": "column", "operand": "right", "operand_line": 9, "operand_xor": "0x40"},
        ),
    ],
)
def test_the_evidence_tells_what_kind_of_part_is_wrong(fault: Fault, expected: dict[str, Any]) -> None:
    said = check_gemm([fault])
    assert said.verdict == "fail"
    assert {name: said.evidence[name] for name in expected} == expected


def test_the_evidence_stays_small_however_much_is_wrong() -> None:
    faults = [Fault(row=row, col=0, mask=2) for row in range(ROWS_NAMED_MAX * 2)]
    evidence = check_gemm(faults).evidence
    assert evidence["rows"] == list(range(ROWS_NAMED_MAX))
    assert evidence["rows_wrong"] == ROWS_NAMED_MAX * 2
    assert len(json.dumps(evidence)) < 1_000


def test_only_the_device_that_is_hit_fails() -> None:
    wish = Wish(backend="numpy", only=["gemm"], faults=[Fault(row=1, col=1, device=1)])
    checks = run([0, 1], seed=3, wish=wish)
    assert [(said.device, said.verdict) for said in checks] == [(0, "pass"), (1, "fail")]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(row=128),
        Fault(col=128),
        Fault(mask=1 << 32),
        Fault(col=120, stride=8, count=2),
        Fault(kind="operand", inner=256),
        Fault(kind="operand", mask=1 << 16),
        Fault(kind="alias"),
    ],
)
def test_a_fault_outside_of_the_product_is_inconclusive_never_a_pass(fault: Fault) -> None:
    said = check_gemm([fault])
    assert said.verdict == "inconclusive"
    assert "128 by 128" in said.detail or "cannot have" in said.detail


def test_products_that_are_right_but_late_do_not_pass() -> None:
    class Model(NumpyBackend):
        name: Any = "cupy"
        traits = NumpyBackend.traits.__class__(
            **{**vars(NumpyBackend.traits), "model": "NVIDIA H200", "uuid": "GPU-1"}
        )

    def judged(ms: float) -> tuple[str, str | None]:
        seen = Seen(KINDS["bf16"], Shape(8192, 8192, 8192), rounds=8)
        seen.plain_ms, seen.verified_ms = [ms] * 3, [ms * 1.1] * 2
        said = _judge(Setting(backend=Model(), seed=1), [seen])
        return said.verdict, said.action

    assert judged(1.70) == ("pass", None)
    assert judged(1.90)[0] == "warn"
    assert judged(2.15)[0] == "fail"
    assert judged(2.15)[1] is not None


@pytest.mark.parametrize("round_number", [0, 1, 2, 3])
def test_a_tile_that_is_not_written_is_not_taken_for_the_product_before(round_number: int) -> None:
    fault = Fault(kind="stale", row=70, col=70, round=round_number)
    # Room for one product: each round's stands where the one before stood.
    setting = Setting(backend=BACKEND, seed=7, faults=[fault], memory_bytes_max=200_000)
    said = check(PROBE, setting, Size(("bf16",), {"float": SHAPE}, rounds=4))
    assert (said.verdict, said.evidence["rounds_wrong"]) == ("fail", 1), said
    assert (said.evidence["row"], said.evidence["col"]) == (64, 64)
    assert (said.evidence["rows_wrong"], said.evidence["elements_wrong"]) == (64, 64)


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


def test_a_device_that_breaks_in_its_own_way_is_inconclusive_and_says_how(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class CompileException(Exception):
        """What a GPU's compiler raises: no RuntimeError."""

    def broken(*_: Any, **__: Any) -> None:
        raise CompileException("no headers")

    monkeypatch.setattr(product, "multiply", broken)
    said = check_gemm()
    assert (said.verdict, said.backend) == ("inconclusive", "numpy")
    assert "CompileException: no headers" in said.detail


def test_a_device_without_room_for_one_product_is_inconclusive_and_says_how_much_there_is() -> None:
    setting = Setting(backend=BACKEND, seed=7, memory_bytes_max=100_000)
    said = check(PROBE, setting, SIZE)
    assert said.verdict == "inconclusive"
    assert "100000 bytes of memory can be taken" in said.detail
    assert (
        check(PROBE, Setting(backend=BACKEND, seed=7, memory_bytes_max=200_000), SIZE).verdict == "pass"
    )
