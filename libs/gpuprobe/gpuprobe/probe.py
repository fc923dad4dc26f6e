"""One kind of check: what it is given, how it is run in slices, and what becomes of its end.

A probe returns a ``Finding`` or lets out what stopped it; ``check`` makes a ``Check`` of either, so
that no probe has to say again how long it took, on what, with which seed, or that it gave up.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from gpuprobe.backend import Backend
from gpuprobe.fault import Fault, FaultUnusable
from gpuprobe.history import History
from gpuprobe.verdict import AGAIN, LATER, Check, Evidence, Finding

SLICE_MS = 5.0
"""At most so long the device works on what cannot be taken back; the stop flag is read between."""

SLICE_AIM = 0.5
"""A slice is sized for this part of it: what comes next may be slower than what was measured."""

GROWTH_MAX = 3.0
"""A slice is at most so many times larger than the last."""

GRAIN_BYTES = 4_096
"""Memory is taken, and cut into slices, in multiples of this."""

KEPT_FREE = 0.03
"""This part of the free memory is left: the driver and the libraries take some while a check runs."""


SAID_CHARS_MAX = 800


class Stopped(Exception):
    """The stop flag was set between two slices."""


class NoRoom(RuntimeError):
    """There is not enough memory for the check; the message says how much there is."""


def never() -> bool:
    """Return ``False``: the stop flag of a run that nobody stops."""
    return False


class Hold:
    """Memory that is kept from one check to the next.

    What is given back the driver clears in the background, for a third of a second after 140 GB;
    until then copies are slower, and whoever wants much memory waits.
    """

    def __init__(self) -> None:
        self.words: Any = None
        self.all = False

    @property
    def bytes(self) -> int:
        """How much is held."""
        return 0 if self.words is None else int(self.words.nbytes)

    def clear(self) -> None:
        """Give the memory back."""
        self.words, self.all = None, False


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a probe is given. ``memory_bytes_max`` bounds what it may take beyond the device's own bound."""

    backend: Backend
    seed: int
    level: str = "quick"
    faults: Sequence[Fault] = ()
    stop: Callable[[], bool] = never
    memory_bytes_max: int | None = None
    history: History = field(default_factory=History)
    hold: Hold = field(default_factory=Hold, compare=False)

    def go_on(self) -> None:
        """Return unless the stop flag is set. Raises ``Stopped``."""
        if self.stop():
            raise Stopped

    def struck(self, probe: str) -> list[Fault]:
        """Return the faults that are to be put into this probe on this device."""
        return [f for f in self.faults if f.probe == probe and f.device == self.backend.device]

    def room(self, wanted: int, least: int) -> int:
        """Return how many bytes to take: ``wanted``, or what there is. Raises ``NoRoom`` below ``least``."""
        free = int(self.backend.free_bytes() * (1 - KEPT_FREE))
        room = min(wanted, free, self.memory_bytes_max or wanted)
        if room < least:
            raise NoRoom(f"{room} bytes of memory can be taken, the check needs {least}")
        return room

    def memory(self, wanted: int, least: int) -> Any:
        """Return ``wanted`` bytes as uint32, or what there is, held for the next. Raises ``NoRoom``, ``Stopped``."""
        if self.hold.bytes < wanted and not self.hold.all:
            self.hold.clear()
            room = self.room(wanted, least) // GRAIN_BYTES * GRAIN_BYTES
            self.go_on()
            self.hold.words = self.backend.empty(room // 4, np.uint32)
            self.hold.all = room < wanted
            # The driver may have been waited for: much can have changed since the flag was read.
            self.go_on()
        return self.hold.words[: min(wanted, self.hold.bytes) // 4]

    def pause(self, seconds: float, step_s: float = 0.01) -> None:
        """Wait, with an eye on the stop flag. Raises ``Stopped``."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.go_on()
            time.sleep(min(left, step_s))


class Pace:
    """Cuts work into slices of at most ``SLICE_MS`` of the device's time, by what the last one took.

    One for each kernel: ``ms`` sums the device's time, ``longest_ms`` is the longest slice's, and
    ``slowest`` the fewest items a millisecond with where that was.
    """

    def __init__(self, setting: Setting, first: int, multiple: int = 1) -> None:
        self._setting = setting
        self._size = max(multiple, first - first % multiple)
        self._multiple = multiple
        self.ms = 0.0
        self.longest_ms = 0.0
        self.slowest: tuple[float, int] | None = None

    def slices(
        self, total: int, work: Callable[[int, int], None], *, downwards: bool = False
    ) -> Iterator[float]:
        """Do ``work(first, count)`` over ``total`` items; yield each slice's milliseconds.

        Raises ``Stopped`` between two slices when the stop flag is set.
        """
        done = 0
        while done < total:
            self._setting.go_on()
            count = min(self._size, total - done)
            first = total - done - count if downwards else done
            took = self._setting.backend.timed(partial(work, first, count))
            self._learn(first, count, took)
            done += count
            yield took

    def run(self, total: int, work: Callable[[int, int], None], *, downwards: bool = False) -> float:
        """Do all of ``slices``; return their milliseconds."""
        return sum(self.slices(total, work, downwards=downwards))

    def _learn(self, first: int, count: int, took_ms: float) -> None:
        self.ms += took_ms
        # Short slices are mostly waiting.
        if took_ms > SLICE_MS / 10:
            here = (count / took_ms, first)
            self.slowest = here if self.slowest is None else min(self.slowest, here)
        self.longest_ms = max(self.longest_ms, took_ms)
        fits = count * SLICE_MS * SLICE_AIM / max(took_ms, 1e-3)
        fits = min(fits, self._size * GROWTH_MAX)
        self._size = max(self._multiple, int(fits) // self._multiple * self._multiple)


@dataclass(frozen=True)
class Probe:
    """A kind of check by name, and how large it is: by level on a GPU, and by level on the host."""

    name: str
    run: Callable[[Setting, Any], Finding]
    sizes: Mapping[str, Any]
    small: Mapping[str, Any]
    holds: bool = False
    """Whether it tests memory that is held from check to check; before all others that is given back."""

    def size(self, setting: Setting) -> Any:
        """Return the size for the setting's level and backend, ``None`` where the level leaves it out."""
        sizes = self.sizes if setting.backend.name == "cupy" else self.small
        return sizes.get(setting.level)


def check(probe: Probe, setting: Setting, size: Any) -> Check:
    """Return what ``probe`` finds; whatever stops it is ``inconclusive``, never a pass."""
    began = time.perf_counter()
    if not probe.holds:
        setting.hold.clear()
    struck = setting.struck(probe.name)
    try:
        with setting.backend.here():
            setting.go_on()
            finding = probe.run(setting, size)
    except Stopped:
        setting.hold.clear()
        finding = _unjudged("stopped before its end: the device is wanted", LATER)
    except (FaultUnusable, NoRoom) as fault:
        finding = _unjudged(str(fault), AGAIN)
    except Exception as fault:  # noqa: BLE001 - drivers and compilers raise what they like
        said = f"{type(fault).__name__}: {fault}"[:SAID_CHARS_MAX]
        finding = _unjudged(f"the device gave up: {said}", AGAIN)
    evidence: Evidence = {"seed": setting.seed, **finding.evidence}
    detail = finding.detail
    if struck:
        evidence["injected"] = len(struck)
        detail += "; a fault was injected on purpose"
    elif finding.verdict == "pass" and setting.backend.name != "cupy":
        whose = "NumPy references" if setting.backend.name == "numpy" else "the kernels themselves"
        detail += f" ({whose} on the host: the check is exercised, no GPU is)"
    for name, value in finding.measured.items():
        evidence.setdefault(name, round(value, 4))
    if finding.verdict == "pass" and finding.measured and not struck:
        setting.history.add(setting.backend.traits.uuid, setting.level, finding.measured)
    return Check(
        name=probe.name,
        device=setting.backend.device,
        verdict=finding.verdict,
        backend=setting.backend.name,
        took_ms=round((time.perf_counter() - began) * 1_000),
        detail=detail,
        action=finding.action,
        evidence=evidence,
    )


def _unjudged(why: str, action: str) -> Finding:
    return Finding(verdict="inconclusive", detail=why, action=action)
