"""Which checks a level runs on a device, and what their outcome means."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from gpuprobe import gemm
from gpuprobe.backend import Backend, NoDevice, pick
from gpuprobe.fault import Fault, FaultUnusable
from gpuprobe.verdict import Check, Evidence

LEVELS = ("quick",)
ROWS_NAMED_MAX = 32
"""At most so many wrong rows stand in the evidence; ``rows_wrong`` counts all."""

REPLACE = "cordon the node; repeat the check, and replace the device where it fails again"


@dataclass(frozen=True)
class Size:
    """How much of a check a level runs."""

    shape: gemm.Shape
    rounds: int


SIZES = {
    ("quick", "numpy"): Size(gemm.Shape(256, 1024, 256), rounds=2),
    ("quick", "cupy"): Size(gemm.Shape(4096, 8192, 4096), rounds=8),
}


def run(
    level: str, devices: Sequence[int], *, seed: int, faults: Sequence[Fault] = (), wish: str = "auto"
) -> list[Check]:
    """Return the checks of ``level`` on each device, in order; nothing is raised for a device's sake.

    ``seed`` chooses the operands; ``faults`` are put into the results on purpose, which the
    evidence says. ``wish`` is the backend: ``auto``, ``numpy`` or ``cupy``.
    """
    checks = []
    for device in devices:
        struck = [fault for fault in faults if fault.device == device]
        try:
            backend = pick(device, wish)
        except NoDevice as fault:
            checks.append(_unjudged(device, str(fault)))
            continue
        checks.append(check_gemm(backend, SIZES[level, backend.name], seed=seed, faults=struck))
    return checks


def check_gemm(backend: Backend, size: Size, *, seed: int, faults: Sequence[Fault] = ()) -> Check:
    """Return whether a device multiplies exactly, round after round; a wrong row is named."""
    began = time.perf_counter()
    try:
        with backend.here():
            wrong_by_round, element = _rounds(backend, size, seed, faults)
    except FaultUnusable as fault:
        return _unjudged(backend.device, str(fault), backend)
    except Exception as fault:  # noqa: BLE001 - drivers and compilers raise what they like
        detail = f"the device gave up: {type(fault).__name__}: {fault}"
        return _unjudged(backend.device, detail, backend)
    took_ms = round((time.perf_counter() - began) * 1_000)
    return _judge(backend, size, seed, wrong_by_round, element, took_ms=took_ms, injected=len(faults))


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


def _judge(
    backend: Backend,
    size: Size,
    seed: int,
    wrong_by_round: list[list[int]],
    element: tuple[int, int] | None,
    *,
    took_ms: int,
    injected: int,
) -> Check:
    shape = size.shape
    rows = sorted({row for wrong in wrong_by_round for row in wrong})
    evidence: Evidence = {
        "size": [shape.rows, shape.inner, shape.cols],
        "rounds": size.rounds,
        "seed": seed,
        "rows_wrong": len(rows),
    }
    if injected:
        evidence["injected"] = injected
    if not rows:
        detail = f"{size.rounds} products of {shape.rows}x{shape.inner}x{shape.cols} are exact"
        if backend.name == "numpy":
            detail += " (NumPy references on the host: the check is exercised, no GPU is)"
        return _check(backend, "pass", took_ms, detail, evidence)
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
    if injected:
        detail += "; a fault was injected on purpose"
    return _check(backend, "fail", took_ms, detail, evidence, action=REPLACE)


def _check(
    backend: Backend,
    verdict: str,
    took_ms: int,
    detail: str,
    evidence: Evidence,
    *,
    action: str | None = None,
) -> Check:
    assert verdict in {"pass", "fail"}
    return Check(
        name="gemm",
        device=backend.device,
        verdict="pass" if verdict == "pass" else "fail",
        backend=backend.name,
        took_ms=took_ms,
        detail=detail,
        action=action,
        evidence=evidence,
    )


def _unjudged(device: int, why: str, backend: Backend | None = None) -> Check:
    return Check(
        name="gemm",
        device=device,
        verdict="inconclusive",
        backend="cupy" if backend is None else backend.name,
        took_ms=0,
        detail=why,
        action="put right what the detail names, then check again",
    )
