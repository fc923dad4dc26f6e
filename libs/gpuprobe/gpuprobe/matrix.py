"""``python -m gpuprobe.matrix``: how many faults the checks find, where they say these are, and how often they err.

Faults of every model are put in one at a time, on a GPU or on the host; beside the exact product's
own figures stands what comparing a device with itself would have found in the same run.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from gpuprobe import matrix_checks, matrix_gemm
from gpuprobe.backend import Backend, pick
from gpuprobe.matrix_checks import Model
from gpuprobe.matrix_gemm import Tally

DETECTION_MIN = 0.999
LOCATION_MIN = 0.99


@dataclass
class Report:
    """The matrix: a tally for each model, sound runs and the false alarms among them, by check."""

    backend: str
    model: str
    tallies: list[Tally] = field(default_factory=list)
    clean_runs: dict[str, int] = field(default_factory=dict)
    false_alarms: dict[str, int] = field(default_factory=dict)
    excused: dict[str, int] = field(default_factory=dict)
    """Sound runs of a GPU that were called slow and nothing else, at a size that says nothing of speed."""
    broken: dict[str, str] = field(default_factory=dict)
    """What could not be run, and why."""
    left_out: dict[str, str] = field(default_factory=dict)
    """What this device does not have."""
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Tell whether every model is found and located well enough, and nothing sound is called wrong."""
        good = all(
            tally.detection >= DETECTION_MIN
            and (tally.location is None or tally.location >= LOCATION_MIN)
            for tally in self.tallies
        )
        return good and not self.broken and not any(self.false_alarms.values())

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON can carry it."""
        rows = [
            asdict(t)
            | {
                "detection": round(t.detection, 5),
                "location": None if t.location is None else round(t.location, 5),
            }
            for t in self.tallies
        ]
        return asdict(self) | {"tallies": rows, "holds": self.holds}


def run(
    backend: Backend,
    count: int,
    clean: int,
    seed: int,
    *,
    said: Callable[[Report], None] = lambda _: None,
    until: float | None = None,
) -> Report:
    """Return the matrix of ``count`` faults a model and ``clean`` sound runs; ``said`` hears of every step.

    What has not begun by ``until`` (of ``time.monotonic``) is left out, and the report says so.
    """
    report = Report(backend.name, backend.traits.model)
    began = time.monotonic()

    def step(name: str, work: Callable[[], None]) -> None:
        if until is not None and time.monotonic() > until:
            report.broken[name] = "not run: the time was up"
        else:
            try:
                work()
            except Exception as fault:  # noqa: BLE001 - one check's trouble is not another's
                report.broken[name] = f"{type(fault).__name__}: {fault}"
        report.seconds = time.monotonic() - began
        said(report)

    def sound(name: str, runs: int, alarms: int, slow: int = 0) -> None:
        report.excused[name] = report.excused.get(name, 0) + slow
        report.clean_runs[name] = report.clean_runs.get(name, 0) + runs
        report.false_alarms[name] = report.false_alarms.get(name, 0) + alarms

    with backend.here():
        step("gemm", lambda: report.tallies.extend(matrix_gemm.run(backend, count, seed)))
        step("gemm, clean", lambda: sound("gemm", clean, matrix_gemm.clean(backend, clean, seed)))
        cleaned: set[str] = set()
        for model in matrix_checks.models():
            name = model.probe.name
            if name == "peers" and backend.name == "cupy" and _alone(backend):
                report.left_out["peers"] = "there is one GPU only"
                continue

            def faults(model: Model = model) -> None:
                report.tallies.append(matrix_checks.run(backend, model, count, seed))

            def nothing(model: Model = model) -> None:
                runs = max(1, clean // 10)
                alarms, slow = matrix_checks.clean(backend, model, runs, seed)
                sound(model.probe.name, runs, alarms, slow)

            step(f"{name}: {model.name}", faults)
            if name not in cleaned:
                cleaned.add(name)
                step(f"{name}, clean", nothing)
    return report


def _alone(backend: Backend) -> bool:
    return int(backend.arrays.cuda.runtime.getDeviceCount()) < 2


def table(report: Report) -> str:
    """Return the report for people."""
    lines = [
        f"{report.model} ({report.backend}), {report.seconds:.0f} s",
        f"{'check':16} {'fault':34} {'changed':>8} {'found':>8} {'placed':>8} {'self':>8} {'NaN':>6}",
    ]
    for tally in report.tallies:
        compared = _part(tally.self_compared, tally.changed)
        placed = "-" if tally.location is None else f"{tally.location:.2%}"
        watched = _part(tally.watched, tally.changed)
        lines.append(
            f"{tally.probe:16} {tally.model:34} {tally.changed:8} {tally.detection:8.2%}"
            f" {placed:>8} {compared:>8} {watched:>6}"
        )
    for name, runs in report.clean_runs.items():
        slow = report.excused.get(name, 0)
        small = f" ({slow} more were only slow, too small to tell)" if slow else ""
        alarms = report.false_alarms[name]
        lines.append(f"{name}: {alarms} false alarms in {runs} sound runs{small}")
    lines += [f"{name}: {why}" for name, why in (report.broken | report.left_out).items()]
    return "\n".join(lines)


def _part(count: int | None, of: int) -> str:
    return "" if count is None or not of else f"{count / of:.1%}"


def main(arguments: list[str] | None = None) -> int:
    """Return 0 where the matrix holds, 1 where it does not."""
    parser = argparse.ArgumentParser(prog="python -m gpuprobe.matrix", description=__doc__)
    parser.add_argument("--backend", choices=("auto", "numpy", "host", "cupy"), default="auto")
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--faults", type=int, default=100, help="of each model")
    parser.add_argument(
        "--clean", type=int, default=1_000, help="sound products; a tenth of other runs"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    backend = pick(options.device, options.backend)
    report = run(backend, options.faults, options.clean, options.seed)
    print(json.dumps(report.as_json()) if options.json else table(report))
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
