"""The check ``soak``: full power for a while, every product the same, and what the sensors make of it."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gpuprobe import floors, nvml
from gpuprobe.exact import Exact, Shape
from gpuprobe.golden import SEEDS
from gpuprobe.heat import Heat
from gpuprobe.nvml import HARD_REASONS, SOFT_THERMAL, NoSensors, Nvml, Sample
from gpuprobe.probe import SLICE_AIM, SLICE_MS, Probe, Setting
from gpuprobe.product import KINDS, bytes_needed
from gpuprobe.struck import Stale, flip
from gpuprobe.verdict import AGAIN, COOL, REPLACE, WATCH, Evidence, Finding

POWER_MIN = 0.9
"""A card under full load draws this part of what it may, or something holds it back."""

DROP_MAX = 0.03
"""The speed may fall by so much between the warm beginning and the end."""

SETTLED_S = 2.0
"""Before, the clock follows the power, not the heat: no speed of then is compared."""

EXACT_EVERY_S = 1.0
HARD_SAMPLES_MIN = 2
"""A hard reason seen once may be the load's first edge."""

U64_MAX = 2**64 - 1
SAMPLES_MAX = 8192
TRACE_MAX = 64
"""At most so many samples stand in the evidence."""

Open = Callable[[str], Nvml]


@dataclass(frozen=True)
class Size:
    """How long to heat, how often to look at the sensors, and what to multiply."""

    seconds: float
    every_s: float
    shape: Shape
    judged: bool = True
    """Whether power and speed are judged: too short a soak says nothing of them."""


@dataclass
class Soaked:
    """What a soak came to."""

    products: int = 0
    differing: int = 0
    strays: int = 0
    exact: int = 0
    exact_wrong: int = 0
    samples: list[Sample] = field(default_factory=list)
    speeds: list[tuple[float, float]] = field(default_factory=list)
    """(seconds since the start, TFLOP/s)"""


def run(setting: Setting, size: Size, open_card: Open = Nvml.open) -> Finding:
    """Return how the card stands full power."""
    card: Nvml | None = None
    why = "the host has no sensors"
    if setting.backend.name == "cupy" or open_card is not Nvml.open:
        try:
            card = open_card(setting.backend.traits.uuid)
        except NoSensors as fault:
            why = str(fault)
    soaked = soak(setting, size, card)
    limit_w = card.power_limit_w() if card else None
    return judge(setting, size, soaked, limit_w, why)


def soak(setting: Setting, size: Size, card: Nvml | None) -> Soaked:
    """Heat for the size's time."""
    backend, soaked = setting.backend, Soaked()
    needed = 2 * sum(bytes_needed(KINDS["bf16"], size.shape))
    setting.room(needed, needed)
    heat = Heat(backend, KINDS["bf16"], size.shape, setting.seed)
    exact = Exact(backend, KINDS["bf16"], size.shape, SEEDS[setting.seed % len(SEEDS)])
    faults = setting.struck("soak")
    first = {}
    for turned in (False, True):
        heat.multiply(turned=turned)
        soaked.strays += heat.strays(turned=turned)
        heat.forget()
        heat.add()
        first[turned] = heat.digest()
    began = time.monotonic()
    looked = verified = began - max(size.every_s, EXACT_EVERY_S)
    at_once = 1
    while (now := time.monotonic()) - began < size.seconds or soaked.products == 0:
        setting.go_on()

        def several(at_once: int = at_once, number: int = soaked.products) -> None:
            heat.forget()
            for one in range(number, number + at_once):
                due = [fault for fault in faults if fault.strikes(one)]
                stale = [Stale(heat.out, heat.shape, fault) for fault in due if fault.kind == "stale"]
                heat.multiply(turned=one % 2 == 1)
                for tile in stale:
                    tile.put_back()
                for fault in due:
                    if fault.kind != "stale":
                        flip(backend, heat.out, fault.word, fault.mask)
                heat.add()

        ms = backend.timed(several)
        turns = [one % 2 == 1 for one in range(soaked.products, soaked.products + at_once)]
        soaked.products += at_once
        soaked.differing += heat.digest() != _together(first, turns)
        soaked.speeds.append((now - began, heat.operations * at_once / ms * 1e-9))
        at_once = max(1, min(8, int(at_once * SLICE_MS * SLICE_AIM / ms)))
        if card is not None and now - looked >= size.every_s and len(soaked.samples) < SAMPLES_MAX:
            looked = now
            soaked.samples.append(card.sample())
        if now - verified >= EXACT_EVERY_S:
            verified = now
            soaked.exact_wrong += _exact_wrong(exact)
            soaked.exact += 1
    return soaked


def _together(first: dict[bool, tuple[int, int]], turns: list[bool]) -> tuple[int, int]:
    """Return what the digests of several products come to, each turned round or not."""
    total, mixed = 0, 0
    for turned in turns:
        total, mixed = total + first[turned][0] & U64_MAX, mixed ^ first[turned][1]
    return total, mixed


def _exact_wrong(exact: Exact) -> bool:
    exact.spoil()
    exact.begin_verifying()
    exact.multiply()
    exact.verify()
    return not exact.looks()[0].right


def judge(setting: Setting, size: Size, soaked: Soaked, limit_w: float | None, why: str) -> Finding:
    """Return the verdict: results first, then what holds the clock down, then power and speed."""
    early, late = _ends(soaked, size)
    evidence: Evidence = {
        "seconds": size.seconds,
        "products": soaked.products,
        "exact_products": soaked.exact,
        **_sensed(soaked.samples),
    }
    if limit_w is not None:
        evidence["power_limit_w"] = round(limit_w)
    measured = {}
    if early and late:
        evidence |= {"tflops_early": round(early, 1), "tflops_late": round(late, 1)}
        measured["soak_tflops"] = late
    wrong = soaked.differing + soaked.strays + soaked.exact_wrong
    if wrong:
        evidence |= {
            "differing": soaked.differing,
            "strays": soaked.strays,
            "exact_wrong": soaked.exact_wrong,
        }
        detail = (
            f"under load {soaked.differing} slices of {soaked.products} products differ from the first,"
            f" {soaked.strays} elements from float64, {soaked.exact_wrong} exact products are wrong"
        )
        return Finding(verdict="fail", detail=detail, action=REPLACE, evidence=evidence)
    hard = [s for s in soaked.samples if (s.reasons or 0) & HARD_REASONS]
    if len(hard) >= HARD_SAMPLES_MIN:
        held = ", ".join(nvml.named_reasons((hard[0].reasons or 0) & HARD_REASONS))
        detail = f"the clock was held down ({held}) in {len(hard)} of {len(soaked.samples)} samples"
        return Finding(verdict="fail", detail=detail, action=COOL, evidence=evidence)
    if setting.backend.name == "cupy" and not soaked.samples:
        return Finding(
            verdict="inconclusive", detail=f"no sensor: {why}", action=AGAIN, evidence=evidence
        )
    reasons = _slow(setting, size, soaked, limit_w, (early, late))
    if reasons:
        return Finding(verdict="warn", detail="; ".join(reasons), action=WATCH, evidence=evidence)
    detail = f"{soaked.products} products under load are the same, {soaked.exact} exact ones right"
    return Finding(verdict="pass", detail=detail, evidence=evidence, measured=measured)


def _slow(
    setting: Setting,
    size: Size,
    soaked: Soaked,
    limit_w: float | None,
    speeds: tuple[float | None, float | None],
) -> list[str]:
    """Return what of power, heat and speed is not as it should be."""
    if not size.judged or not soaked.samples:
        return []
    reasons = []
    powers = [s.power_w for s in soaked.samples if s.power_w is not None]
    profile = floors.profile(setting.backend.traits.model)
    full = limit_w or (profile.tdp_w if profile else None)
    if powers and full and max(powers) < POWER_MIN * full:
        reasons.append(f"draws {max(powers):.0f} W at most, of {full:.0f} W it may")
    if sum(1 for s in soaked.samples if (s.reasons or 0) & SOFT_THERMAL) >= HARD_SAMPLES_MIN:
        reasons.append("the driver held the clock down for heat")
    early, late = speeds
    if early and late and late < (1 - DROP_MAX) * early:
        reasons.append(f"fell from {early:.0f} to {late:.0f} TFLOP/s")
    return reasons


def _ends(soaked: Soaked, size: Size) -> tuple[float | None, float | None]:
    """Return the median speed of the settled beginning and of the end: each a fifth of the time."""
    start = SETTLED_S if size.seconds > 2 * SETTLED_S else 0.0
    part = (size.seconds - start) / 5
    early = [v for t, v in soaked.speeds if start <= t < start + part]
    late = [v for t, v in soaked.speeds if t >= size.seconds - part]
    return (
        statistics.median(early) if early else None,
        statistics.median(late) if late else None,
    )


def _sensed(samples: list[Sample]) -> Evidence:
    evidence: Evidence = {"samples": len(samples)}
    some = samples[:: max(1, len(samples) // TRACE_MAX)][:TRACE_MAX]
    powers = [round(s.power_w) for s in some if s.power_w is not None]
    heats = [s.temperature_c for s in some if s.temperature_c is not None]
    clocks = [s.sm_mhz for s in some if s.sm_mhz is not None]
    if powers:
        evidence |= {"power_max_w": max(powers), "power_w": powers}
    if heats:
        evidence |= {"temperature_max_c": max(heats), "temperature_c": heats}
    if clocks:
        evidence |= {"sm_mhz": clocks}
    seen = 0
    for sample in samples:
        seen |= sample.reasons or 0
    if seen:
        evidence["reasons"] = hex(seen)
    return evidence


_LARGE = Shape(8192, 8192, 8192)
_SMALL = Shape(128, 1024, 256)

PROBE = Probe(
    "soak",
    run,
    sizes={
        "standard": Size(8.0, 0.1, _LARGE),
        "deep": Size(180.0, 0.25, _LARGE),
    },
    small={"standard": Size(0.05, 0.01, _SMALL), "deep": Size(0.1, 0.01, _SMALL)},
)
