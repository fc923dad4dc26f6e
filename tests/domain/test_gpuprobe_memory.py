"""Memory: what is changed behind a check's back is found, at its address, in its bits."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gpuprobe import launches, memory, sram
from gpuprobe.backend import Backend
from gpuprobe.fault import Fault
from gpuprobe.memory import Size
from gpuprobe.on_numpy import NumpyBackend
from gpuprobe.probe import SLICE_MS, Probe, Setting, check
from gpuprobe.verdict import Check

from tests.domain.probing import BACKENDS, opened

pytestmark = pytest.mark.slow

PROBES = (memory.HASH, memory.MARCH, memory.PATTERNS, memory.RETENTION)
KIB = 1024
SIZE = Size(64 * KIB)
WORDS = 64 * KIB // 4


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return opened(request.param)


def told(backend: Backend, probe: Probe, *faults: Fault, size: Size = SIZE, seed: int = 5) -> Check:
    return check(probe, Setting(backend=backend, seed=seed, level="deep", faults=faults), size)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_sound_memory_passes(backend: Backend, probe: Probe) -> None:
    for seed in range(5):
        sound = told(backend, probe, seed=seed, size=Size(64 * KIB, rounds=2))
        assert (sound.verdict, sound.action) == ("pass", None), sound


def places() -> list[Fault]:
    chance = np.random.default_rng(11)
    return [
        Fault(word=int(word), mask=int(mask) or 1, persistent=bool(n % 2))
        for n, (word, mask) in enumerate(
            zip(chance.integers(0, WORDS, 12), 1 << chance.integers(0, 32, 12), strict=True)
        )
    ] + [
        Fault(word=0, mask=1),
        Fault(word=WORDS - 1, mask=0x80000000),
        Fault(word=777, mask=0xFFFFFFFF, persistent=True),
    ]


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_flipped_bits_are_found_at_their_address(backend: Backend, probe: Probe) -> None:
    for fault in places():
        hit = told(backend, probe, _for(probe, fault))
        assert hit.verdict == "fail", fault
        assert hit.evidence["word"] == fault.word
        assert hit.evidence["offset"] == hex(fault.word * 4)
        assert hit.evidence["mask"] == hex(fault.mask)
        assert hit.evidence["injected"] == 1
        assert hit.action


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_lane_of_many_bits_is_found_and_counted(backend: Backend, probe: Probe) -> None:
    fault = Fault(word=64, stride=32, count=20, mask=0x00110100, persistent=True)
    hit = told(backend, probe, _for(probe, fault))
    assert (hit.verdict, hit.evidence["word"], hit.evidence["bits"]) == ("fail", 64, [8, 16, 20])
    # In a march what was flipped twice is right again; what is read in between is wrong each time.
    assert int(str(hit.evidence["words_wrong"])) >= 20


@pytest.mark.parametrize("level", [0, 0xFFFFFFFF])
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_bit_that_is_stuck_is_found_in_one_of_the_polarities(
    backend: Backend, probe: Probe, level: int
) -> None:
    fault = Fault(kind="stick", word=4_321, mask=1 << 9, level=level, persistent=True)
    hit = told(backend, probe, _for(probe, fault))
    assert (hit.verdict, hit.evidence["word"], hit.evidence["bits"]) == ("fail", 4_321, [9])
    assert hit.evidence.get("again") == (None if probe is memory.MARCH else "wrong again")


@pytest.mark.parametrize("line", [0, 1, 2, 5, 11, 13])
@pytest.mark.parametrize("probe", [memory.HASH, memory.MARCH], ids=lambda probe: probe.name)
def test_a_dead_address_line_is_named(backend: Backend, probe: Probe, line: int) -> None:
    hit = told(backend, probe, _for(probe, Fault(kind="alias", line=line, persistent=True)))
    assert hit.verdict == "fail"
    assert hit.evidence.get("line") == line


def test_flipped_bits_are_never_taken_for_a_dead_line() -> None:
    chance = np.random.default_rng(4)
    for seed in range(60):
        faults = [
            Fault(probe="memory_hash", word=int(word), mask=int(mask), persistent=True)
            for word, mask in zip(
                chance.integers(0, WORDS, 3), chance.integers(1, 2**32, 3), strict=True
            )
        ]
        hit = told(NumpyBackend(), memory.HASH, *faults, seed=seed)
        assert hit.verdict == "fail"
        assert "line" not in hit.evidence


def test_a_dead_line_is_invisible_to_a_constant_and_that_is_why_there_is_a_hash() -> None:
    words = np.full(WORDS, 0xAAAAAAAA, np.uint32)
    NumpyBackend().launch("strike_alias", words, WORDS, 64)
    assert (words == 0xAAAAAAAA).all()


def test_a_flip_in_a_later_element_of_a_march_names_the_element(backend: Backend) -> None:
    for element in range(5):
        hit = told(backend, memory.MARCH, Fault(probe="memory_march", word=99, mask=4, round=element))
        assert (hit.verdict, hit.evidence["word"]) == ("fail", 99)
        assert f"element {element + 1} of march 1" in hit.detail


def test_a_flip_is_not_seen_before_its_round_and_the_round_is_named(backend: Backend) -> None:
    fault = Fault(probe="memory_hash", word=7, mask=1, round=3)
    hit = told(backend, memory.HASH, fault, size=Size(64 * KIB, rounds=3))
    assert hit.evidence["when"] == "in round 2, inverse"
    assert told(backend, memory.HASH, fault, size=Size(64 * KIB, rounds=1)).verdict == "pass"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(word=WORDS, mask=1), "outside of it"),
        (Fault(word=0, count=2, stride=WORDS, mask=1), "outside of it"),
        (Fault(word=0, mask=1 << 32), "outside of it"),
        (Fault(word=0, count=0), "outside of it"),
        (Fault(kind="alias", line=14), "line 14 is not used"),
        (Fault(kind="slow"), "no fault of the kind slow"),
    ],
)
def test_a_fault_that_cannot_be_put_in_is_inconclusive(
    backend: Backend, fault: Fault, said: str
) -> None:
    hit = told(backend, memory.HASH, _for(memory.HASH, fault))
    assert hit.verdict == "inconclusive"
    assert said in hit.detail


def test_a_wait_can_be_stopped(backend: Backend) -> None:
    asked: list[None] = []

    def stop() -> bool:
        asked.append(None)
        return len(asked) > 6

    setting = Setting(backend=backend, seed=1, level="deep", stop=stop)
    stopped = check(memory.RETENTION, setting, Size(64 * KIB, wait_s=60.0))
    assert (stopped.verdict, "stopped" in stopped.detail) == ("inconclusive", True)
    assert stopped.took_ms < 30_000


def _for(probe: Probe, fault: Fault) -> Fault:

    return dataclasses.replace(fault, probe=probe.name)


def test_memory_is_held_from_check_to_check_and_given_back_before_another(backend: Backend) -> None:
    setting = Setting(backend=backend, seed=1, level="deep")
    check(memory.HASH, setting, Size(128 * KIB))
    first = setting.hold.words
    assert setting.hold.bytes == 128 * KIB
    check(memory.MARCH, setting, Size(64 * KIB))
    assert setting.hold.words is first
    check(memory.MARCH, setting, Size(256 * KIB))
    assert setting.hold.bytes == 256 * KIB
    check(sram.PROBE, setting, sram.PROBE.small["quick"])
    assert setting.hold.bytes == 0


def test_all_the_memory_there_is_is_not_asked_for_twice(backend: Backend) -> None:
    setting = Setting(backend=backend, seed=1, level="deep", memory_bytes_max=512 * KIB)
    check(memory.HASH, setting, Size(1024 * KIB))
    first = setting.hold.words
    check(memory.MARCH, setting, Size(2048 * KIB))
    assert (setting.hold.words is first, setting.hold.bytes) == (True, 512 * KIB)


def test_a_check_that_is_stopped_gives_its_memory_back(backend: Backend) -> None:
    asked: list[None] = []
    setting = Setting(
        backend=backend, seed=1, level="deep", stop=lambda: asked.append(None) or len(asked) > 3
    )
    assert check(memory.HASH, setting, Size(64 * KIB, rounds=9)).verdict == "inconclusive"
    assert setting.hold.bytes == 0


class Watched(NumpyBackend):
    """A device that is slow enough for many slices, and keeps where they began."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[tuple[str, int]] = []

    def launch(self, kernel: str, *arguments: Any, **shape: Any) -> None:
        super().launch(kernel, *arguments, **shape)
        self.begun.append((kernel, arguments[1]))

    def timed(self, work: Callable[[], None]) -> float:
        super().timed(work)
        return 1.7 * SLICE_MS


@pytest.mark.parametrize("probe", [memory.HASH, memory.MARCH, memory.PATTERNS], ids=lambda p: p.name)
def test_no_slice_begins_amid_a_line_of_memory(probe: Probe) -> None:
    device = Watched()
    assert told(device, probe, size=Size(100 * KIB)).verdict == "pass"
    begun = [
        first * 16 for kernel, first in device.begun if kernel.startswith(("fill", "turn", "check"))
    ]
    assert len(set(begun)) > 3
    assert all(place % 4_096 == 0 for place in begun)


@pytest.mark.parametrize("probe", [*PROBES, launches.PROBE], ids=lambda probe: probe.name)
def test_a_check_that_is_stopped_while_it_waits_for_memory_launches_nothing(probe: Probe) -> None:
    class Waiting(Watched):
        stopped = False

        def empty(self, count: int, dtype: Any) -> Any:
            self.stopped = True
            return super().empty(count, dtype)

    device = Waiting()
    setting = Setting(backend=device, seed=1, level="deep", stop=lambda: device.stopped)
    assert check(probe, setting, probe.small["deep"]).verdict == "inconclusive"
    assert (device.stopped, device.begun, setting.hold.bytes) == (True, [], 0)
