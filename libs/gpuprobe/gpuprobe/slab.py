"""A piece of memory under test: patterns written, read and turned over it in slices."""

from dataclasses import dataclass
from typing import Any

from gpuprobe import pattern
from gpuprobe.probe import GRAIN_BYTES, Pace, Setting
from gpuprobe.strikes import strike
from gpuprobe.verdict import REPLACE, Evidence, Finding
from gpuprobe.wrongs import Log, Wrongs, set_bits

VECTOR_BYTES = 16
ALL = 2**62
"""All the memory that is free."""

LEAST_BYTES = 64 * 2**10
FIRST_SLICE_BYTES = 256 * 2**20
"""More than a cache holds: what fits into one is faster than all that follows."""

MEASURED_BYTES_MIN = 2**30
"""Over less than this a speed says more of the launches than of the memory."""

MOVES = {"fill": 1.0, "check": 1.0, "turn": 2.0, "disturb": 0.95}
"""How often a kernel moves each byte: of twenty lines one is spared."""


@dataclass(frozen=True)
class Fill:
    """A pattern in one round: the kernels' name for it, and what they take."""

    name: str
    numbers: tuple[int, int]

    @property
    def inverse(self) -> "Fill":
        """The hash turned over."""
        assert self.name == "hash"
        return Fill(self.name, (self.numbers[0], self.numbers[1] ^ pattern.INVERSE))


class Slab:
    """Memory of a device under one check: ``wanted`` bytes, or what there is."""

    def __init__(self, setting: Setting, probe: str, wanted: int) -> None:
        self.setting = setting
        self.probe = probe
        self.words: Any = setting.memory(wanted, LEAST_BYTES)
        self.vectors = int(self.words.size) // pattern.WORDS
        self.log = Log(setting.backend)
        self.writes = 0
        self._paces: dict[str, Pace] = {}
        self._bytes: dict[str, float] = {}
        self._warm: set[str] = set()

    def fill(self, what: Fill, *, disturb: bool = False) -> None:
        """Write a pattern (and all but every twentieth line again); then due faults show."""
        self._pass("fill", what, ())
        if disturb:
            self._pass("disturb", what, ())
        self.strike()

    def check(self, what: Fill, tag: int) -> None:
        """Read a pattern back; ``tag`` marks in the log when."""
        self._pass("check", what, (self.log.array, tag))

    def turn(self, what: Fill, tag: int, *, down: bool) -> None:
        """Read a pattern and write its inverse, upwards or downwards; then the faults that are due show."""
        self._pass("turn", what, (int(down), self.log.array, tag), down=down)
        self.strike()

    def strike(self) -> None:
        """Put in the faults of this write, and count it."""
        strike(self.setting, self.probe, self.words, self.writes)
        self.writes += 1

    def speeds(self) -> dict[str, float]:
        """Return GB/s by kind of pass, of those that moved enough to tell."""
        return {
            f"{kind}_gbps": self._bytes[kind] / pace.ms / 1e6
            for kind, pace in self._paces.items()
            if self._bytes[kind] >= MEASURED_BYTES_MIN and pace.ms > 0
        }

    def evidence(self) -> Evidence:
        """Return what was covered, and how long the longest slice took."""
        longest = max((pace.longest_ms for pace in self._paces.values()), default=0.0)
        moved = int(sum(self._bytes.values()))
        slow: Evidence = {}
        for kind, pace in self._paces.items():
            if pace.slowest is not None:
                rate, first = pace.slowest
                slow[f"{kind}_slowest_gbps"] = round(rate * MOVES[kind] * VECTOR_BYTES / 1e6, 1)
                slow[f"{kind}_slowest_at"] = hex(first * VECTOR_BYTES)
        covered: Evidence = {"bytes": self.vectors * VECTOR_BYTES, "moved_bytes": moved}
        return covered | {"slice_ms": round(longest, 3)} | slow

    def _pass(self, kind: str, what: Fill, more: tuple[Any, ...], *, down: bool = False) -> None:
        kernel = f"{kind}_{what.name}"
        backend, words, numbers = self.setting.backend, self.words, what.numbers

        def work(first: int, count: int) -> None:
            backend.launch(kernel, words, first, count, *numbers, *more)

        if kernel not in self._warm:
            # The first launch of a kernel may be held up by its loading: this one does nothing.
            backend.prepare(kernel)
            work(0, 0)
            self._warm.add(kernel)
        if kind not in self._paces:
            # A slice that began amid a line of memory would write parts of lines: a third slower.
            first, grain = (size // VECTOR_BYTES for size in (FIRST_SLICE_BYTES, GRAIN_BYTES))
            self._paces[kind] = Pace(self.setting, first, grain)
            self._bytes[kind] = 0.0
        self._paces[kind].run(self.vectors, work, downwards=down)
        self._bytes[kind] += self.vectors * VECTOR_BYTES * MOVES[kind]


def judge(
    slab: Slab, wrongs: Wrongs, what: Fill, *, when: str = "", passed: str = "", marched: bool = False
) -> Finding:
    """Return the finding: the first wrong word that was kept, how many there are, and a dead line.

    ``what`` is the pattern that was read last, ``when`` the moment in words; what was marched over
    since holds no more what was read wrongly.
    """
    if not wrongs.count:
        speeds = slab.speeds()
        return Finding(verdict="pass", detail=passed, evidence=slab.evidence(), measured=speeds)
    evidence = slab.evidence() | {"words_wrong": wrongs.count, "when": when}
    first = wrongs.examples[0]
    offset = first.where * 4
    evidence |= {
        "word": first.where,
        "offset": hex(offset),
        "address": hex(slab.setting.backend.address(slab.words) + offset),
        "mask": hex(first.mask),
        "bits": set_bits(first.mask),
        "bits_anywhere": set_bits(wrongs.bits),
    }
    if not marched:
        evidence["again"] = _again(slab, what, first.where)
    detail = f"{wrongs.count} words are wrong {when}, one {hex(offset)} bytes on, in bits {set_bits(first.mask)}"
    line = dead_line(wrongs, what, slab.vectors * pattern.WORDS)
    if line is not None:
        evidence["line"] = line
        detail += f"; address line {line} of the word is dead: two addresses answer as one"
    return Finding(verdict="fail", detail=detail, action=REPLACE, evidence=evidence)


def dead_line(wrongs: Wrongs, what: Fill, words: int) -> int | None:
    """Return the address bit (of words) that explains every example, where there is one.

    A hash is undone to the place to which a wrong word belongs; one bit's difference from where
    it was found, the same in all of at least two, is no chance.
    """
    if what.name != "hash" or len(wrongs.examples) < 2:
        return None
    apart: set[int] | None = None
    for example in wrongs.examples:
        key, flip = what.numbers
        # What the word should hold tells which polarity was being read.
        if pattern.hashed(example.where, key, flip) != example.expected:
            flip ^= pattern.INVERSE
        # A dead line among the lowest leads to another word of the same vector.
        found = {
            example.where ^ home
            for lane in range(pattern.WORDS)
            for home in pattern.homes(example.found, lane, words, key, flip)
        }
        apart = found if apart is None else apart & found
        if not apart:
            return None
    single = [bits for bits in apart or () if bits and bits & (bits - 1) == 0]
    return single[0].bit_length() - 1 if single else None


def _again(slab: Slab, what: Fill, word: int) -> str:
    """Tell by another look whether the cell holds what is wrong, or was read wrongly once."""
    log = Log(slab.setting.backend)
    vector = word // pattern.WORDS
    slab.setting.backend.launch(
        f"check_{what.name}", slab.words, vector, 1, *what.numbers, log.array, 0
    )
    return "wrong again" if log.read().count else "right when read again"
