"""Levels as a whole: how long they take, how fast they stop, and whether they ever call a sound card wrong."""

import random
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gpuprobe import gemm_check, levels, soak_check, sweep_check
from gpuprobe.bench import Bench, spread
from gpuprobe.levels import Wish
from gpuprobe.probe import Probe, Setting, check
from gpuprobe.probes import BY_NAME, PROBES
from gpuprobe.verdict import Check
from gpuprobe.watched import Watched

CLEAN_WANTED = 300
FIGURES = ("copy_gbps", "bf16_tflops", "bf16_verified_tflops", "fill_gbps", "check_gbps", "pcie_gbps")
BINS = 20
PREEMPTION_S = 18.0


def quick(bench: Bench) -> Any:
    """Return the wall time of warm quick levels, by check too."""
    walls: list[float] = []
    by_check: dict[str, list[int]] = {}
    bad: list[dict[str, Any]] = []
    for number in range(bench.times(20) + 1):
        took_ms, checks = _level(bench, "quick", 100 + number)
        if number == 0:
            first = {"wall_ms": took_ms, "checks": [c.as_json() for c in checks]}
            continue
        walls.append(took_ms)
        bad += [c.as_json() for c in checks if c.verdict != "pass"]
        for one in checks:
            by_check.setdefault(one.name, []).append(one.took_ms)
    return {
        "wall_ms": spread(walls),
        "by_check_p50_ms": {name: statistics.median(values) for name, values in by_check.items()},
        "not_passed": bad[:8],
        "first": first,
    }


def standard(bench: Bench) -> Any:
    """Return one standard level, check by check."""
    took_ms, checks = _level(bench, "standard", 7)
    return {"wall_ms": took_ms, "checks": [one.as_json() for one in checks]}


def preemption(bench: Bench) -> Any:
    """Return how long checks go on after they were told to stop: until no kernel runs, and to their end.

    By the end all memory is free again. A check is told at a moment drawn by chance.
    """
    chance = random.Random(1)  # noqa: S311 - moments, not secrets
    kernels: list[tuple[float, str]] = []
    ends: list[tuple[float, str]] = []
    probes = [probe for probe in PROBES if probe.name != "peers"]
    began = time.monotonic()
    while len(ends) < bench.times(200) and time.monotonic() - began < min(PREEMPTION_S, bench.left()):
        probe = chance.choice(probes)
        told = _stopped(bench, probe, chance.uniform(0.02, 0.3))
        if told is not None:
            kernels.append((told[0], probe.name))
            ends.append((told[1], probe.name))
    return {
        "kernels_done_after_ms": spread([ms for ms, _ in kernels]),
        "ended_after_ms": spread([ms for ms, _ in ends]),
        "slowest_kernels": sorted(kernels)[-3:],
        "slowest_ends": sorted(ends)[-3:],
    }


def _stopped(bench: Bench, probe: Probe, after_s: float) -> tuple[float, float] | None:
    """Return the milliseconds from the flag to the last kernel's end, and to the check's own."""
    flag = threading.Event()
    backend, watched = Watched.over(bench.backend)
    setting = Setting(backend=backend, seed=3, level="deep", stop=flag.is_set)
    ended: list[float] = []

    def work() -> None:
        with bench.backend.here():
            check(probe, setting, probe.size(setting))
            watched.settle()
            setting.hold.clear()
        ended.append(time.monotonic())

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(after_s)
    running = thread.is_alive()
    told = time.monotonic()
    flag.set()
    thread.join()
    if not running:
        return None
    return max(0.0, (watched.idle_at - told) * 1_000), (ended[0] - told) * 1_000


def soak(bench: Bench) -> Any:
    """Return a soak with its trace, as long as the standard one."""
    probe = soak_check.PROBE
    setting = Setting(backend=bench.backend, seed=1, level="standard")
    size = probe.size(setting)
    if bench.smoke and bench.backend.name == "cupy":
        size = replace(size, seconds=2.0, judged=False)
    return check(probe, setting, size).as_json()


def deep(bench: Bench) -> Any:
    """Return the checks of the level deep whose work is counted, cut down; others last as long as they are told.

    ``whole_s`` is what was cut down, multiplied again: counted, not measured.
    """
    setting = Setting(backend=bench.backend, seed=9, level="deep")
    cut = {
        "gemm": (10, replace(_deep(gemm_check.PROBE), rounds=_deep(gemm_check.PROBE).rounds // 10)),
        "sm_sweep": (1, _deep(sweep_check.PROBE)),
    }
    if bench.backend.name != "cupy":
        return {"not_measured": "the host has no such level"}
    told: dict[str, Any] = {}
    for name, (times, size) in cut.items():
        said = check(BY_NAME[name], setting, size)
        told[name] = said.as_json() | {"cut": times, "whole_s": said.took_ms * times / 1_000}
        bench.tell(told)
    return told


def _deep(probe: Probe) -> Any:
    return probe.sizes["deep"]


def clean(bench: Bench) -> Any:
    """Return how many of as many quick levels as fit called this card wrong, and how figures scatter."""
    bad: list[dict[str, Any]] = []
    figures: dict[str, list[float]] = {}
    verdicts: dict[str, int] = {}
    wrong = 0
    walls: list[float] = []
    while len(walls) < bench.times(CLEAN_WANTED) and bench.left() > 3.0:
        took_ms, checks = _level(bench, "quick", 10_000 + len(walls))
        walls.append(took_ms)
        wrong += any(one.verdict != "pass" for one in checks)
        for one in checks:
            verdicts[one.verdict] = verdicts.get(one.verdict, 0) + 1
            if one.verdict != "pass":
                bad.append(one.as_json())
            for name in FIGURES:
                value = one.evidence.get(name)
                if isinstance(value, (int, float)):
                    figures.setdefault(name, []).append(float(value))
        if len(walls) % 20 == 0:
            bench.tell({"runs_not_passed": wrong, **_cleaned(walls, verdicts, bad, figures)})
    return {"runs_not_passed": wrong, **_cleaned(walls, verdicts, bad, figures)}


def _cleaned(
    walls: Sequence[float],
    verdicts: dict[str, int],
    bad: list[dict[str, Any]],
    figures: dict[str, list[float]],
) -> dict[str, Any]:
    return {
        "runs": len(walls),
        "verdicts": verdicts,
        "not_passed": bad[:8],
        "wall_ms": spread(walls),
        "figures": {name: spread(values) | _binned(values) for name, values in figures.items()},
    }


def _binned(values: Sequence[float]) -> dict[str, Any]:
    low, high = min(values), max(values)
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int((value - low) / ((high - low) or 1.0) * BINS))] += 1
    return {"histogram": counts}


def _level(bench: Bench, level: str, seed: int) -> tuple[float, list[Check]]:
    wish = Wish(level=level, backend=bench.backend.name)
    began = time.perf_counter()
    checks = levels.run([bench.backend.device], seed=seed, wish=wish)
    return (time.perf_counter() - began) * 1_000, checks
