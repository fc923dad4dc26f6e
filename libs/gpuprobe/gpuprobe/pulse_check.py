"""The check ``pulse``: load switched on and off in square waves, every product of every burst verified.

The current a card draws jumps by hundreds of amperes between idling and multiplying; a supply that
is only just good enough shows at the edge, in products that are wrong.
"""

import time
from dataclasses import dataclass, field

from gpuprobe.exact import Exact, Shape
from gpuprobe.gemm_check import where
from gpuprobe.golden import SEEDS
from gpuprobe.probe import SLICE_AIM, SLICE_MS, Probe, Setting
from gpuprobe.product import KINDS, bytes_needed
from gpuprobe.struck import Struck
from gpuprobe.verdict import REPLACE, Evidence, Finding


@dataclass(frozen=True)
class Size:
    """The waves' periods, half on and half off, and how long each is kept up."""

    periods_ms: tuple[float, ...]
    seconds_each: float
    shape: Shape


@dataclass(frozen=True)
class Wave:
    """A square wave's period, and what one product with its verification takes."""

    period_ms: float
    each_ms: float


@dataclass
class Pulsed:
    """What the bursts came to."""

    bursts: int = 0
    products: int = 0
    wrong: dict[float, int] = field(default_factory=dict)
    """Bursts with a wrong product, by period."""
    first: Evidence = field(default_factory=dict)


def run(setting: Setting, size: Size) -> Finding:
    """Return whether every product was right at every pace."""
    needed = sum(bytes_needed(KINDS["bf16"], size.shape))
    setting.room(needed, needed)
    exact = Exact(setting.backend, KINDS["bf16"], size.shape, SEEDS[setting.seed % len(SEEDS)])
    struck = Struck(exact, setting.struck("pulse"))
    pulsed = Pulsed()
    each_ms = _each_ms(exact)
    for period_ms in size.periods_ms:
        until = time.monotonic() + size.seconds_each
        while True:
            _burst(setting, struck, pulsed, Wave(period_ms, each_ms))
            if time.monotonic() >= until:
                break
            setting.pause(period_ms / 2_000)
    return _judge(size, pulsed)


def _each_ms(exact: Exact) -> float:
    exact.begin_verifying()

    def one() -> None:
        exact.spoil()
        exact.multiply()
        exact.verify()

    one()
    return min(exact.backend.timed(one) for _ in range(3))


def _burst(setting: Setting, struck: Struck, pulsed: Pulsed, wave: Wave) -> None:
    """Multiply for half a period, in slices; an odd number each keeps all of the digest."""
    exact = struck.exact
    left = max(1, round(wave.period_ms / 2 / wave.each_ms))
    slice_of = max(1, int(SLICE_MS * SLICE_AIM / wave.each_ms))
    wrong = False
    while left > 0:
        setting.go_on()
        count = min(left, slice_of) | 1
        left -= count
        exact.begin_verifying()
        for _ in range(count):
            exact.spoil()
            struck.before(pulsed.products)
            exact.multiply()
            struck.after(pulsed.products, 0)
            exact.verify()
            pulsed.products += 1
        look = exact.looks(times=count)[0]
        if not look.right and not pulsed.first:
            pulsed.first = where(exact, look, 0)
        wrong = wrong or not look.right
    pulsed.bursts += 1
    if wrong:
        pulsed.wrong[wave.period_ms] = pulsed.wrong.get(wave.period_ms, 0) + 1


def _judge(size: Size, pulsed: Pulsed) -> Finding:
    evidence: Evidence = {
        "periods_ms": " ".join(f"{period:g}" for period in size.periods_ms),
        "bursts": pulsed.bursts,
        "products": pulsed.products,
    }
    if not pulsed.wrong:
        detail = f"{pulsed.products} products in {pulsed.bursts} bursts are exact"
        return Finding(verdict="pass", detail=detail, evidence=evidence)
    count = sum(pulsed.wrong.values())
    periods = " ".join(f"{period:g}" for period in pulsed.wrong)
    evidence |= {"bursts_wrong": count, "periods_wrong_ms": periods, **pulsed.first}
    detail = f"{count} of {pulsed.bursts} bursts have a wrong product, at periods of {periods} ms"
    return Finding(verdict="fail", detail=detail, action=REPLACE, evidence=evidence)


_PERIODS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
_LARGE = Shape(1024, 8192, 8192)
_SMALL = Shape(256, 1024, 256)

PROBE = Probe(
    "pulse",
    run,
    sizes={
        "standard": Size(_PERIODS, 0.3, _LARGE),
        "deep": Size(_PERIODS, 8.0, _LARGE),
    },
    small={"standard": Size((1.0, 4.0), 0.0, _SMALL), "deep": Size((1.0, 4.0), 0.0, _SMALL)},
)
