"""Faults put into whole checks, one at a time: which are found, and whether the right place is named."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpuprobe import (
    bandwidth,
    launches,
    memory,
    pcie,
    peers_check,
    pulse_check,
    soak_check,
    sram,
    sweep_check,
)
from gpuprobe import matrix_places as places
from gpuprobe.backend import Backend
from gpuprobe.chains import UNITS
from gpuprobe.exact import Shape
from gpuprobe.fault import Fault
from gpuprobe.matrix_gemm import Tally, bits_of
from gpuprobe.probe import Probe, Setting, check
from gpuprobe.verdict import Check, Evidence

MIB = 2**20
LANES = 32
LANES_COUNT = 8

Located = Callable[[Evidence, Fault], bool]


@dataclass(frozen=True)
class Model:
    """A kind of fault in a check: how one is drawn, how its place is told, and how large the check is.

    ``located`` is ``None`` where there is no place to name: a launch is left out somewhere.
    """

    probe: Probe
    name: str
    draw: Callable[[np.random.Generator, Backend], Fault]
    located: Located | None
    on_host: Any
    on_gpu: Any


def _words(host: int, gpu: int) -> Callable[[np.random.Generator, Backend], int]:
    return lambda chance, backend: int(chance.integers(gpu if backend.name == "cupy" else host))


def _memory_models() -> list[Model]:
    word = _words(64 * 2**8 - LANES * LANES_COUNT, 16 * MIB - LANES * LANES_COUNT)
    models = []
    for probe in (memory.HASH, memory.MARCH, memory.PATTERNS, memory.RETENTION):
        name = probe.name

        def flip(c: np.random.Generator, b: Backend, name: str = name) -> Fault:
            # Patterns write most words twice: what passes is gone by then, and changed nothing.
            lasting = name == memory.PATTERNS.name
            return Fault(probe=name, word=word(c, b), mask=1 << int(c.integers(32)), persistent=lasting)

        def bits(c: np.random.Generator, b: Backend, name: str = name) -> Fault:
            return Fault(probe=name, word=word(c, b), mask=bits_of(c, 2, 8), persistent=True)

        def lanes(c: np.random.Generator, b: Backend, name: str = name) -> Fault:
            place: dict[str, Any] = {"word": word(c, b), "stride": LANES, "count": LANES_COUNT}
            return Fault(probe=name, mask=bits_of(c, 2, 8), persistent=True, **place)

        def stick(c: np.random.Generator, b: Backend, name: str = name) -> Fault:
            mask, level = 1 << int(c.integers(32)), int(c.integers(2)) * 0xFFFFFFFF
            return Fault(
                probe=name, kind="stick", word=word(c, b), mask=mask, level=level, persistent=True
            )

        def alias(c: np.random.Generator, b: Backend, name: str = name) -> Fault:
            line = int(c.integers(24 if b.name == "cupy" else 14))
            return Fault(probe=name, kind="alias", line=line, persistent=True)

        # The faults strike after a write: for retention, while nobody looks.
        waits = 0.001 if probe.name == memory.RETENTION.name else 0.0
        host, gpu = (memory.Size(size, wait_s=waits) for size in (64 * 2**10, 64 * MIB))
        models += [
            Model(probe, "one bit", flip, places.at_word, host, gpu),
            Model(probe, "2 to 8 bits, persistent", bits, places.at_word, host, gpu),
            Model(probe, "lane-strided bits, persistent", lanes, places.at_lane, host, gpu),
            Model(probe, "stuck bit, persistent", stick, places.some_of_word, host, gpu),
        ]
        if probe.name in {memory.HASH.name, memory.RETENTION.name}:
            models.append(
                Model(probe, "dead address line, persistent", alias, places.at_line, host, gpu)
            )
    return models


def _chip_models() -> list[Model]:
    def cell(c: np.random.Generator, b: Backend) -> Fault:
        cells = b.traits.shared_bytes // 4
        place: dict[str, Any] = {"sm": int(c.integers(b.traits.multiprocessors))}
        place["word"] = int(c.integers(cells))
        return Fault(probe="sram", kind="perturb", mask=bits_of(c, 1, 4), persistent=True, **place)

    def lanes(c: np.random.Generator, b: Backend) -> Fault:
        place: dict[str, Any] = {
            "sm": int(c.integers(b.traits.multiprocessors)),
            "line": int(c.integers(sweep_check.SCHEDULERS)),
            "level": int(c.integers(len(UNITS))),
        }
        word, mask = int(c.integers(1, 2**32)), bits_of(c, 1, 8)
        return Fault(probe="sm_sweep", kind="perturb", word=word, mask=mask, **place)

    small, sweep = sram.Size(1, 1, 2), sweep_check.Size(rounds=16, launches=2)
    return [
        Model(sram.PROBE, "cell of a multiprocessor, persistent", cell, places.at_cell, small, small),
        Model(sweep_check.PROBE, "lanes of a scheduler", lanes, places.at_lanes, sweep, sweep),
    ]


def _way_models() -> list[Model]:
    def sent(c: np.random.Generator, b: Backend) -> Fault:
        words = 2**20 if b.name == "cupy" else 2**12
        mask, level = bits_of(c, 1, 8), int(c.integers(2))
        return Fault(probe="pcie", word=int(c.integers(words)), mask=mask, level=level)

    def dropped(c: np.random.Generator, _: Backend) -> Fault:
        return Fault(probe="launches", kind="drop", word=int(c.integers(launches.BATCH)))

    def peer(c: np.random.Generator, b: Backend) -> Fault:
        words = 2**20 if b.name == "cupy" else 2**10
        return Fault(probe="peers", word=int(c.integers(words)), mask=bits_of(c, 1, 8))

    def copied(c: np.random.Generator, b: Backend) -> Fault:
        words = 2**20 if b.name == "cupy" else 2**12
        return Fault(probe="bandwidth", word=int(c.integers(words)), mask=bits_of(c, 1, 8))

    batches = launches.Size(launches.BATCH * 2, 64 * 2**10)
    peers = (peers_check.Size(2**10, 1), peers_check.Size(2**20, 1))
    return [
        # How fast a copy is cannot be wrong at so small a size: a slower one is not put in.
        Model(
            *(bandwidth.PROBE, "bits of a word copied", copied, places.at_word),
            *(bandwidth.Size(2**16, 1), bandwidth.Size(2**26, 5)),
        ),
        Model(
            *(pcie.PROBE, "bits of a word on its way", sent, places.at_word),
            *(pcie.Size(2**14, 1), pcie.Size(2**22, 1)),
        ),
        Model(launches.PROBE, "launch left out", dropped, None, batches, batches),
        Model(peers_check.PROBE, "bits of a word on its way", peer, places.at_peer, *peers),
    ]


def _load_models() -> list[Model]:
    host, gpu = Shape(128, 256, 128), Shape(512, 2048, 512)

    def burst(c: np.random.Generator, b: Backend) -> Fault:
        shape = gpu if b.name == "cupy" else host
        place: dict[str, Any] = {"row": int(c.integers(shape.rows))}
        place["col"] = int(c.integers(shape.cols))
        return Fault(probe="pulse", mask=1 << int(c.integers(32)), persistent=True, **place)

    def left_out(c: np.random.Generator, b: Backend, probe: str = "pulse") -> Fault:
        shape = gpu if b.name == "cupy" else host
        place: dict[str, Any] = {"row": int(c.integers(shape.rows))}
        place["col"] = int(c.integers(shape.cols))
        return Fault(probe=probe, kind="stale", **place)

    def heat(c: np.random.Generator, b: Backend) -> Fault:
        shape = gpu if b.name == "cupy" else host
        word = int(c.integers(shape.rows * shape.cols))
        return Fault(probe="soak", word=word, mask=1 << int(c.integers(32)))

    waves = (pulse_check.Size((0.01,), 0.0, host), pulse_check.Size((0.1,), 0.0, gpu))
    soaks = (
        soak_check.Size(0.0, 1.0, host, judged=False),
        soak_check.Size(0.0, 1.0, gpu, judged=False),
    )
    return [
        Model(pulse_check.PROBE, "one bit, persistent", burst, places.at_row, *waves),
        Model(pulse_check.PROBE, "tile not written", left_out, places.at_tile, *waves),
        Model(soak_check.PROBE, "one bit of one product", heat, None, *soaks),
        Model(
            soak_check.PROBE,
            "tile not written",
            lambda c, b: left_out(c, b, "soak"),
            None,
            *soaks,
        ),
    ]


def models() -> list[Model]:
    """Return every model of every check but the product's."""
    return [*_memory_models(), *_chip_models(), *_way_models(), *_load_models()]


def run(backend: Backend, model: Model, count: int, seed: int) -> Tally:
    """Return what becomes of ``count`` of the model's faults; each changes a result by how it is drawn."""
    tally = Tally(model.probe.name, model.name, located=None if model.located is None else 0)
    size = model.on_gpu if backend.name == "cupy" else model.on_host
    for number in range(count):
        chance = np.random.default_rng((seed, number, *model.name.encode()))
        fault = dataclasses.replace(model.draw(chance, backend), device=backend.device)
        setting = Setting(backend=backend, seed=seed + number, level="standard", faults=(fault,))
        said = check(model.probe, setting, size)
        assert said.verdict != "inconclusive", said.detail
        tally.injected += 1
        tally.changed += 1
        if said.verdict == "fail":
            tally.detected += 1
            if tally.located is not None and model.located is not None:
                tally.located += model.located(said.evidence, fault)
    return tally


def clean(backend: Backend, model: Model, count: int, seed: int) -> tuple[int, int]:
    """Return how many of ``count`` sound runs are called anything but well, and how many only slow.

    Slow is what so small a run is on a GPU (``too_small``): it says nothing, and is counted by itself.
    """
    size = model.on_gpu if backend.name == "cupy" else model.on_host
    alarms = slow = 0
    for number in range(max(1, count)):
        setting = Setting(backend=backend, seed=seed + number, level="standard")
        said = check(model.probe, setting, size)
        if said.verdict != "pass":
            excused = too_small(said)
            slow += excused
            alarms += not excused
    return alarms, slow


def too_small(said: Check) -> bool:
    """Tell whether a check of a GPU holds nothing against it but the speed of a copy too small to tell."""
    only_speed = "floor_from" in said.evidence and "words_wrong" not in said.evidence
    small = said.name in {bandwidth.PROBE.name, pcie.PROBE.name, peers_check.PROBE.name}
    judged = said.backend == "cupy" and said.verdict in {"warn", "fail"} and said.action != pcie.RESEAT
    return judged and small and only_speed
