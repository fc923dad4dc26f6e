"""The check ``gemm``: does a device multiply exactly, round after round; a wrong row is named."""

from collections.abc import Sequence
from dataclasses import dataclass

from gpuprobe import gemm
from gpuprobe.backend import Backend
from gpuprobe.fault import Fault
from gpuprobe.probe import Probe, Setting
from gpuprobe.verdict import REPLACE, Evidence, Finding

ROWS_NAMED_MAX = 32
"""At most so many wrong rows stand in the evidence; ``rows_wrong`` counts all."""


@dataclass(frozen=True)
class Size:
    """How much of the check a level runs."""

    shape: gemm.Shape
    rounds: int


def run(setting: Setting, size: Size) -> Finding:
    """Return whether every product is exact."""
    faults = setting.struck("gemm")
    wrong_by_round, element = _rounds(setting.backend, size, setting.seed, faults)
    return _judge(size, wrong_by_round, element)


def _rounds(
    backend: Backend, size: Size, seed: int, faults: Sequence[Fault]
) -> tuple[list[list[int]], tuple[int, int] | None]:
    """Return the wrong rows of each round, and the first wrong element: (column, flipped bits)."""
    wrong_by_round: list[list[int]] = []
    element: tuple[int, int] | None = None
    problem = gemm.pose(backend, size.shape, seed)
    for number in range(size.rounds):
        product = gemm.multiply(backend, problem)
        for fault in faults:
            if fault.strikes(number):
                fault.hit(product)
        rows = gemm.wrong_rows(backend, problem, product)
        wrong_by_round.append(rows)
        if rows and element is None:
            element = next(iter(gemm.wrong_elements(backend, problem, product, rows[0])), None)
    return wrong_by_round, element


def _judge(size: Size, wrong_by_round: list[list[int]], element: tuple[int, int] | None) -> Finding:
    shape = size.shape
    rows = sorted({row for wrong in wrong_by_round for row in wrong})
    evidence: Evidence = {
        "size": [shape.rows, shape.inner, shape.cols],
        "rounds": size.rounds,
        "rows_wrong": len(rows),
    }
    if not rows:
        detail = f"{size.rounds} products of {shape.rows}x{shape.inner}x{shape.cols} are exact"
        return Finding(verdict="pass", detail=detail, evidence=evidence)
    first = next(wrong for wrong in wrong_by_round if wrong)[0]
    rounds_wrong = sum(1 for wrong in wrong_by_round if wrong)
    evidence |= {"row": first, "rows": rows[:ROWS_NAMED_MAX], "rounds_wrong": rounds_wrong}
    place = f"row {first}"
    if element is not None:
        column, flipped = element
        evidence |= {"col": column, "bits": [bit for bit in range(32) if flipped >> bit & 1]}
        place += f", column {column}"
    more = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
    detail = f"the product is wrong in {place}{more}, in {rounds_wrong} of {size.rounds} rounds"
    return Finding(verdict="fail", detail=detail, action=REPLACE, evidence=evidence)


PROBE = Probe(
    "gemm",
    run,
    sizes={
        level: Size(gemm.Shape(4096, 8192, 4096), rounds=8) for level in ("quick", "standard", "deep")
    },
    small={
        level: Size(gemm.Shape(256, 1024, 256), rounds=2) for level in ("quick", "standard", "deep")
    },
)
