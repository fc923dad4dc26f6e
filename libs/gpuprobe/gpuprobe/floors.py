"""What a card must reach: by its model, and by what it measured before.

A figure measured on such a card is trusted closely; one worked out from a maker's sheet is given
more room. A model that is not known has only its own past, and the evidence says so.

A card that falls short of its own past alone warns; it fails where it is below its model's floor, or
a quarter and more below what it usually measured at the same level.
"""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from gpuprobe.history import Baseline
from gpuprobe.probe import Setting
from gpuprobe.verdict import REPLACE, WATCH, Evidence, Verdict

COPY_OF_SHEET = 0.88
"""Copies reach about this part of a sheet's memory bandwidth (0.90 measured on an H200)."""

GEMM_OF_SHEET = 0.75
"""Matrix products reach about this part of a sheet's dense rate (0.67 measured on an H200 at its power limit, 0.76 before)."""


@dataclass(frozen=True)
class Figure:
    """What is expected, below which part of it a card warns and fails, and where that is from."""

    expected: float
    warn_below: float
    fail_below: float
    source: str


def measured(expected: float, warn: float = 0.95, fail: float = 0.90) -> Figure:
    """Return a figure that such a card was seen to reach."""
    return Figure(expected, warn * expected, fail * expected, "measured")


def by_h200(figure: Figure) -> Figure:
    """Return a figure of an H200 for a card that should come to the same, which nobody here has measured."""
    return replace(figure, source="an H200")


def sheet(peak: float, reached: float) -> Figure:
    """Return a figure worked out from a maker's sheet."""
    expected = peak * reached
    return Figure(expected, 0.90 * expected, 0.80 * expected, "datasheet")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A model: memory in GB/s copied (read and written), products in TFLOP/s, PCIe in GB/s."""

    name: str
    pattern: str
    copy: Figure
    gemm: Mapping[str, Figure] = field(default_factory=dict)
    pcie: Figure | None = None
    tdp_w: int = 0
    peer: Figure | None = None


def _dense(**peaks: float) -> dict[str, Figure]:
    return {dtype: sheet(peak, GEMM_OF_SHEET) for dtype, peak in peaks.items()}


GEN4 = Figure(25.0, 22.0, 20.0, "gen4 x16")
GEN5 = Figure(55.0, 50.0, 48.0, "gen5 x16")
# Under their power limit, as after a second of products; the first tenths are a sixth faster.
_HOPPER = {
    "bf16": measured(660, 0.90, 0.82),
    "fp16": measured(660, 0.90, 0.82),
    "tf32": measured(380, 0.86, 0.78),
    "int8": measured(1_150, 0.87, 0.78),
    "fp64": measured(59, 0.92, 0.85),
}

PROFILES: tuple[Profile, ...] = (
    Profile(
        name="A100 80GB",
        pattern=r"A100.*80G",
        copy=sheet(2_039, COPY_OF_SHEET),
        gemm=_dense(bf16=312, fp16=312, tf32=156, int8=624, fp64=19.5),
        pcie=GEN4,
        tdp_w=400,
    ),
    Profile(
        name="A100 40GB",
        pattern=r"A100",
        copy=sheet(1_555, COPY_OF_SHEET),
        gemm=_dense(bf16=312, fp16=312, tf32=156, int8=624, fp64=19.5),
        pcie=GEN4,
        tdp_w=400,
    ),
    Profile(
        name="H100 PCIe",
        pattern=r"H100.*PCIe",
        copy=sheet(2_000, COPY_OF_SHEET),
        gemm=_dense(bf16=756, fp16=756, tf32=378, int8=1_513, fp64=51),
        pcie=GEN5,
        tdp_w=350,
    ),
    Profile(
        name="H100 NVL",
        pattern=r"H100.*NVL",
        copy=sheet(3_900, COPY_OF_SHEET),
        gemm=_dense(bf16=835, fp16=835, tf32=417, int8=1_671, fp64=60),
        pcie=GEN5,
        tdp_w=400,
    ),
    Profile(
        name="H100",
        pattern=r"H100",
        copy=by_h200(measured(3_000)),
        gemm={dtype: by_h200(figure) for dtype, figure in _HOPPER.items()},
        pcie=GEN5,
        tdp_w=700,
    ),
    Profile(
        name="H200 NVL",
        pattern=r"H200.*NVL",
        copy=by_h200(measured(4_300)),
        gemm=_dense(bf16=835, fp16=835, tf32=417, int8=1_671, fp64=60),
        pcie=GEN5,
        tdp_w=600,
    ),
    Profile(name="H200", pattern=r"\bH200", copy=measured(4_300), gemm=_HOPPER, pcie=GEN5, tdp_w=700),
    Profile(
        name="GB300",
        pattern=r"GB300|B300",
        copy=sheet(8_000, COPY_OF_SHEET),
        gemm=_dense(bf16=2_250, fp16=2_250, tf32=1_125),
        tdp_w=1_400,
    ),
    Profile(
        name="GB200",
        pattern=r"GB200",
        copy=sheet(8_000, COPY_OF_SHEET),
        gemm=_dense(bf16=2_500, fp16=2_500, tf32=1_250, int8=5_000, fp64=40),
        tdp_w=1_200,
    ),
    Profile(
        name="B200",
        pattern=r"B200",
        copy=sheet(8_000, COPY_OF_SHEET),
        gemm=_dense(bf16=2_250, fp16=2_250, tf32=1_125, int8=4_500, fp64=37),
        pcie=GEN5,
        tdp_w=1_000,
    ),
    Profile(
        name="L40S",
        pattern=r"L40S",
        copy=sheet(864, COPY_OF_SHEET),
        gemm=_dense(bf16=362, fp16=362, tf32=183, int8=733),
        pcie=GEN4,
        tdp_w=350,
    ),
)


@cache
def profile(model: str) -> Profile | None:
    """Return the profile of a model by the name its driver gives it, or ``None``."""
    return next((one for one in PROFILES if re.search(one.pattern, model)), None)


@dataclass(frozen=True)
class Judgement:
    """How a figure stands; ``words`` says against what, ``evidence`` has the numbers."""

    verdict: Verdict
    words: str
    evidence: Evidence

    @property
    def action(self) -> str | None:
        """What is to be done about it."""
        return {"pass": None, "warn": WATCH}.get(self.verdict, REPLACE)


def fastest(took_ms: Sequence[float], in_a_row: int) -> float:
    """Return the median of the fastest samples ``in_a_row``.

    What is worn out is slow every time; a driver that still clears what was given back, or a clock
    that rises, is slow for a while.
    """
    rows = max(1, len(took_ms) - in_a_row + 1)
    return min(statistics.median(took_ms[first : first + in_a_row]) for first in range(rows))


def aim(setting: Setting, name: str, figure: Figure | None) -> float:
    """Return from where on a figure passes, infinite where nothing is known that it could be held to."""
    baseline = _baseline(setting, name)
    known = [baseline.short_below] if baseline is not None else []
    known += [figure.warn_below] if figure is not None else []
    return max(known, default=float("inf"))


def judge(setting: Setting, name: str, value: float, figure: Figure | None) -> Judgement:
    """Return how ``value`` of the figure ``name`` stands against its model's floor and its own past.

    Its own past is what this card measured at this level before. Falling short of that alone warns,
    as clocks, heat and limits differ from day to day; far below it, it fails (``history.Baseline``).
    On the host nothing is judged: how fast the references are says nothing.
    """
    if setting.backend.name != "cupy":
        return Judgement("pass", "not judged on the host", {})
    baseline = _baseline(setting, name)
    evidence: Evidence = {"value": round(value, 3)}
    against: list[tuple[float, Verdict, str]] = []
    if figure is not None:
        evidence |= {"floor": round(figure.fail_below, 3), "floor_from": figure.source}
        against += [
            (figure.fail_below, "fail", f"below the model's floor of {figure.fail_below:.4g}"),
            (figure.warn_below, "warn", f"below {figure.warn_below:.4g}, which the model should reach"),
        ]
    else:
        evidence["floor_from"] = f"none for {setting.backend.traits.model}: its own past only"
    if baseline is not None:
        evidence["baseline"] = round(baseline.usual, 3)
        own: tuple[tuple[float, Verdict], ...] = (
            (baseline.far_below, "fail"),
            (baseline.short_below, "warn"),
        )
        against += [
            (
                floor,
                verdict,
                f"{1 - floor / baseline.usual:.0%} or more below its own {baseline.usual:.4g}",
            )
            for floor, verdict in own
        ]
    for worst in ("fail", "warn"):
        for floor, verdict, words in against:
            if verdict == worst and not value >= floor:
                return Judgement(verdict, words, evidence)
    return Judgement("pass", "as fast as it should be" if against else "no floor is known", evidence)


def _baseline(setting: Setting, name: str) -> Baseline | None:
    return setting.history.baseline(setting.backend.traits.uuid, setting.level, name)
