"""Which checks a level runs on which devices, within a time, or a part of them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gpuprobe import counters
from gpuprobe.backend import NoDevice, pick
from gpuprobe.fault import Fault
from gpuprobe.history import History
from gpuprobe.probe import Setting, check, never
from gpuprobe.probes import PROBES
from gpuprobe.verdict import AGAIN, LATER, BackendName, Check

LEVELS = ("quick", "standard", "deep")
"""At most a second warm, half a minute, ten minutes."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be run.

    ``only`` names probes; ``part`` is (1, n) to (n, n), each probe in one part; what has not begun
    ``budget_s`` after the start is not run, and says so.
    """

    level: str = "quick"
    backend: str = "auto"
    only: Sequence[str] = ()
    part: tuple[int, int] = (1, 1)
    budget_s: float | None = None
    memory_bytes_max: int | None = None
    faults: Sequence[Fault] = ()
    history: History = field(default_factory=History)


def run(
    devices: Sequence[int], *, seed: int, wish: Wish | None = None, stop: Callable[[], bool] = never
) -> list[Check]:
    """Return the checks on each device, in order; nothing is raised for a device's sake.

    ``seed`` chooses operands and patterns; faults are put in on purpose, which the evidence says.
    """
    wish = wish or Wish()
    began = time.monotonic()
    checks = []
    for device in devices:
        try:
            backend = pick(device, wish.backend)
        except NoDevice as fault:
            checks.append(_unrun("device", device, str(fault), AGAIN))
            continue
        setting = Setting(
            backend=backend,
            seed=seed,
            level=wish.level,
            faults=wish.faults,
            stop=stop,
            memory_bytes_max=wish.memory_bytes_max,
            history=wish.history,
        )
        watch = counters.begin(backend)
        part, parts = wish.part
        sized = [(probe, size) for probe in PROBES if (size := probe.size(setting)) is not None]
        chosen = [one for one in sized if not wish.only or one[0].name in wish.only]
        for probe, size in chosen[part - 1 :: parts]:
            if wish.budget_s is not None and time.monotonic() - began > wish.budget_s:
                why = f"not run: the time, {wish.budget_s:g} s, was up"
                checks.append(_unrun(probe.name, device, why, LATER, backend.name))
            else:
                checks.append(check(probe, setting, size))
                if watch is not None:
                    watch.look()
        if watch is not None:
            checks.append(watch.check(device))
    return checks


def _unrun(name: str, device: int, why: str, action: str, backend: BackendName = "cupy") -> Check:
    return Check(
        name=name,
        device=device,
        verdict="inconclusive",
        backend=backend,
        took_ms=0,
        detail=why,
        action=action,
    )
