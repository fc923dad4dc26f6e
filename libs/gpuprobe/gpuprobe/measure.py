"""``python -m gpuprobe.measure --out FILE --budget SECONDS``: a GPU measured, the most telling first.

Each part is guarded: what one cannot do is written down, and the next goes on. The file is written
anew after each part, so that a run that is ended early loses only its last.
"""

import argparse
import json
import platform
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpuprobe import measure_levels, measure_rates, measure_shapes, measure_start
from gpuprobe.backend import Backend, pick
from gpuprobe.bench import Bench
from gpuprobe.exact_sweep import exactness
from gpuprobe.matrix import Report
from gpuprobe.matrix import run as run_matrix

TRACE_CHARS_MAX = 4_000

Work = Callable[[Bench], Any]


@dataclass(frozen=True)
class Part:
    """One thing to measure; begun only while at least ``needs_s`` are left."""

    name: str
    work: Work
    needs_s: float


@dataclass
class Ledger:
    """What was measured so far, on disk and in order."""

    path: Path | None
    told: dict[str, Any] = field(default_factory=dict)

    def write(self) -> None:
        """Put all of it into the file."""
        if self.path is not None:
            beside = self.path.with_name(self.path.name + ".new")
            beside.write_text(json.dumps(self.told, indent=1, default=str))
            beside.replace(self.path)


def matrix(bench: Bench) -> Any:
    """Return the injection matrix on this device, as far as the time goes."""
    count = 5 if bench.smoke else 1_000
    until = time.monotonic() + min(bench.left(), 10.0 if bench.smoke else 100.0)

    def said(report: Report) -> None:
        bench.tell(report.as_json())

    return run_matrix(bench.backend, count, count, 1, said=said, until=until).as_json()


PARTS = (
    Part("card", measure_start.card, 1),
    Part("start", measure_start.start, 20),
    Part("ceilings", measure_rates.ceilings, 3),
    Part("gemm", measure_rates.products, 5),
    Part("kernels", measure_rates.kernels, 3),
    Part("shapes", measure_shapes.shapes, 20),
    Part("quick", measure_levels.quick, 5),
    Part("standard", measure_levels.standard, 40),
    Part("exactness", exactness, 5),
    Part("matrix", matrix, 10),
    Part("preemption", measure_levels.preemption, 10),
    Part("deep", measure_levels.deep, 15),
    Part("clean", measure_levels.clean, 5),
    Part("soak", measure_levels.soak, 10),
)


def run(
    backend: Backend,
    ledger: Ledger,
    budget_s: float,
    *,
    smoke: bool = False,
    only: tuple[str, ...] = (),
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure part after part; return all that was told."""
    ends = time.monotonic() + budget_s
    ledger.told |= {"at": datetime.now(UTC).isoformat(timespec="seconds"), "parts": {}}
    ledger.told |= {"python": platform.python_version(), "budget_s": budget_s, "smoke": smoke}
    parts = ledger.told["parts"]
    for part in PARTS:
        if only and part.name not in only:
            continue
        entry: dict[str, Any] = {}
        parts[part.name] = entry

        def tell(partial: Any, entry: dict[str, Any] = entry) -> None:
            entry["result"] = partial
            ledger.write()

        bench = Bench(backend, ends, tell, smoke=smoke)
        began = time.monotonic()
        if bench.left() < (1 if smoke else part.needs_s):
            entry["not_measured"] = f"{bench.left():.0f} s were left"
        else:
            try:
                with backend.here():
                    entry["result"] = part.work(bench)
            except Exception as fault:  # noqa: BLE001 - one part's trouble is not another's
                entry["error"] = f"{type(fault).__name__}: {fault}"
                entry["trace"] = traceback.format_exc()[-TRACE_CHARS_MAX:]
        entry["took_s"] = round(time.monotonic() - began, 2)
        say(_line(part.name, entry))
        ledger.write()
    return ledger.told


def _line(name: str, entry: dict[str, Any]) -> str:
    said = entry.get("error") or entry.get("not_measured") or json.dumps(entry["result"], default=str)
    return f"[{entry['took_s']:7.1f} s] {name}: {said[:1_500]}"


def main(arguments: list[str] | None = None) -> int:
    """Return 0 where every part was measured, 1 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m gpuprobe.measure", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE")
    parser.add_argument("--budget", type=float, default=290.0, metavar="SECONDS")
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--backend", choices=("auto", "numpy", "host", "cupy"), default="auto")
    parser.add_argument("--only", action="append", default=[], metavar="PART")
    parser.add_argument("--smoke", action="store_true", help="everything once, as small as it goes")
    options = parser.parse_args(arguments)
    backend = pick(options.device, options.backend)
    ledger = Ledger(options.out)
    told = run(backend, ledger, options.budget, smoke=options.smoke, only=tuple(options.only))
    return 1 if any("error" in entry for entry in told["parts"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
