"""The checks of memory: a hash of each address, a march, patterns of neighbours, and retention."""

from dataclasses import dataclass

from gpuprobe import pattern
from gpuprobe.probe import Probe, Setting
from gpuprobe.slab import ALL, Fill, Slab, judge
from gpuprobe.verdict import Finding

GIB = 2**30
SMALL = 256 * 2**10
PHASES = 20
STEPS = 32


@dataclass(frozen=True)
class Size:
    """How much memory, how often, with how long a wait before it is read back."""

    bytes: int
    rounds: int = 1
    wait_s: float = 0.0


def memory_hash(setting: Setting, size: Size) -> Finding:
    """Return whether memory holds a hash of each address, and its inverse, round after round."""
    slab = Slab(setting, "memory_hash", size.bytes)
    return _hold(slab, size)


def retention(setting: Setting, size: Size) -> Finding:
    """Return whether memory still holds what it held before a wait without any access."""
    slab = Slab(setting, "retention", size.bytes)
    return _hold(slab, size)


def _hold(slab: Slab, size: Size) -> Finding:
    setting = slab.setting
    for number in range(size.rounds):
        for flip in (0, pattern.INVERSE):
            what = Fill("hash", (pattern.key(setting.seed, number), flip))
            slab.fill(what)
            setting.pause(size.wait_s)
            slab.check(what, number * 2 + (flip != 0))
            wrongs = slab.log.read()
            if wrongs.count:
                polarity = "inverse" if flip else "plain"
                return judge(slab, wrongs, what, when=f"in round {number + 1}, {polarity}")
    waited = f" for {size.wait_s:g} s" if size.wait_s else ""
    passed = f"{_sized(slab)} held {size.rounds * 2} hashes of their addresses{waited}"
    return judge(slab, wrongs, what, passed=passed)


def memory_march(setting: Setting, size: Size) -> Finding:
    """Return whether memory stands March C-: ten operations a word on a hash and its inverse."""
    slab = Slab(setting, "memory_march", size.bytes)
    for number in range(size.rounds):
        zero = Fill("hash", (pattern.key(setting.seed, number), 0))
        slab.fill(zero)
        for element, (what, down) in enumerate(
            ((zero, False), (zero.inverse, False), (zero, True), (zero.inverse, True)), 1
        ):
            slab.turn(what, number * 6 + element, down=down)
        slab.check(zero, number * 6 + 5)
        wrongs = slab.log.read()
        if wrongs.count:
            tag = min(example.tag for example in wrongs.examples)
            return judge(
                slab, wrongs, zero, when=f"in element {tag % 6} of march {number + 1}", marched=True
            )
    passed = f"{_sized(slab)} stood {size.rounds} marches of ten operations"
    return judge(slab, wrongs, zero, passed=passed)


def memory_patterns(setting: Setting, size: Size) -> Finding:
    """Return whether words and lines keep their value among neighbours of the inverse, and walking bits."""
    slab = Slab(setting, "memory_patterns", size.bytes)
    for number in range(size.rounds):
        for phase in range(PHASES):
            what = Fill("modulo", (pattern.key(setting.seed, number * PHASES + phase), phase))
            slab.fill(what, disturb=True)
            slab.check(what, phase)
            wrongs = slab.log.read()
            if wrongs.count:
                return judge(slab, wrongs, what, when=f"at phase {phase} of twenty")
        for step in range(STEPS):
            what = Fill("walking", (step, pattern.INVERSE * ((step + number) % 2)))
            slab.fill(what)
            slab.check(what, PHASES + step)
            wrongs = slab.log.read()
            if wrongs.count:
                return judge(slab, wrongs, what, when=f"at step {step} of a walking bit")
    passed = f"{_sized(slab)} kept {size.rounds} times twenty phases and 32 walking bits"
    return judge(slab, wrongs, what, passed=passed)


def _sized(slab: Slab) -> str:
    size = slab.vectors * 16
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 1024:.0f} KiB"


_TINY = Size(SMALL)
HASH = Probe(
    "memory_hash",
    memory_hash,
    sizes={"quick": Size(32 * GIB), "standard": Size(ALL, 8), "deep": Size(ALL, 100)},
    small={"quick": _TINY, "standard": Size(SMALL, 2), "deep": Size(SMALL, 4)},
    holds=True,
)
MARCH = Probe(
    "memory_march",
    memory_march,
    sizes={"standard": Size(ALL, 2), "deep": Size(ALL, 20)},
    small={"standard": _TINY, "deep": Size(SMALL, 2)},
    holds=True,
)
PATTERNS = Probe(
    "memory_patterns",
    memory_patterns,
    sizes={"standard": Size(ALL), "deep": Size(ALL, 10)},
    small={"standard": Size(64 * 2**10), "deep": Size(64 * 2**10)},
    holds=True,
)
RETENTION = Probe(
    "retention",
    retention,
    sizes={"deep": Size(ALL, 1, 60.0)},
    small={"deep": Size(SMALL, 1, 0.01)},
    holds=True,
)
