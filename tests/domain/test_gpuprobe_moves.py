"""Speeds, the chip's own memory, the link to the host, and launches: found, named, judged by a floor."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gpuprobe import bandwidth, launches, link, pcie, sram
from gpuprobe.backend import Backend
from gpuprobe.fault import Fault
from gpuprobe.history import History
from gpuprobe.on_numpy import TRAITS, NumpyBackend
from gpuprobe.probe import Probe, Setting, check
from gpuprobe.verdict import BackendName, Check
from gpuprobe.wrongs import Log

from tests.domain.probing import BACKENDS, opened

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return opened(request.param)


PROBES = (bandwidth.PROBE, sram.PROBE, pcie.PROBE, launches.PROBE)


def told(backend: Backend, probe: Probe, *faults: Fault, level: str = "quick") -> Check:
    setting = Setting(backend=backend, seed=5, level=level, faults=faults)
    return check(probe, setting, probe.small[level])


@pytest.mark.parametrize("level", ["quick", "standard", "deep"])
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_sound_device_passes(backend: Backend, probe: Probe, level: str) -> None:
    sound = told(backend, probe, level=level)
    # A card's own memory is not its match at so small a size: only its speed may be wanting.
    assert sound.verdict in ({"pass"} if backend.name != "cupy" else {"pass", "warn", "fail"}), sound
    assert "words_wrong" not in sound.evidence


@pytest.mark.parametrize("kernel", ["copy_words", "read_words", "write_words"])
@pytest.mark.parametrize("count", [1, 5, 1_023])
def test_the_source_moves_as_its_reference_does(kernel: str, count: int) -> None:
    words = np.random.default_rng(1).integers(0, 2**32, 4_096, dtype=np.uint32)
    results = []
    for backend in (NumpyBackend(), *map(opened, BACKENDS)):
        one, other = backend.put(words.copy()), backend.put(np.zeros(4_096, np.uint32))
        arguments: dict[str, tuple[Any, ...]] = {
            "copy_words": (other, one, count),
            "read_words": (one, count, other),
            "write_words": (other, count, 0x1234),
        }
        backend.launch(kernel, *arguments[kernel])
        results.append(backend.fetch(other))
    assert all(np.array_equal(result, results[0]) for result in results)
    assert results[0].any()


@pytest.mark.parametrize("mask", [1, 0x80000000, 0x00F0F000])
def test_a_word_that_a_copy_changes_is_named(backend: Backend, mask: int) -> None:
    hit = told(backend, bandwidth.PROBE, Fault(probe="bandwidth", word=1_001, mask=mask))
    assert (hit.verdict, hit.evidence["word"], hit.evidence["mask"]) == ("fail", 1_001, hex(mask))


@pytest.mark.parametrize(("level", "way"), [(0, "to the host"), (1, "to the device")])
@pytest.mark.parametrize("word", [0, 5_000, 2**14 - 1])
def test_a_word_that_the_link_changes_is_named_with_its_way(
    backend: Backend, level: int, way: str, word: int
) -> None:
    fault = Fault(probe="pcie", word=word, mask=0x8001, level=level)
    hit = told(backend, pcie.PROBE, fault)
    assert (hit.verdict, hit.evidence["word"], hit.evidence["way"]) == ("fail", word, way)
    assert hit.evidence["bits"] == [0, 15]


def test_a_multiprocessor_whose_cell_is_wrong_is_named(backend: Backend) -> None:
    for sm in range(backend.traits.multiprocessors):
        for persistent in (False, True):
            fault = Fault(
                probe="sram", kind="perturb", sm=sm, word=37, mask=0x11, persistent=persistent
            )
            hit = told(backend, sram.PROBE, fault)
            assert (hit.verdict, hit.evidence["sm"], hit.evidence["cell"]) == ("fail", sm, 37)
            assert hit.evidence["bits"] == [0, 4]


def test_a_word_of_the_l2_is_named(backend: Backend) -> None:
    hit = told(backend, sram.PROBE, Fault(probe="sram", word=4_000, mask=2))
    assert (hit.verdict, hit.evidence["word"], hit.evidence["bits"]) == ("fail", 4_000, [1])


def test_the_march_reaches_every_multiprocessor_and_hits_one_cell(backend: Backend) -> None:
    seen, log = backend.put(np.zeros(sram.SEEN_MAX, np.uint32)), Log(backend)
    blocks = backend.traits.multiprocessors
    shape = {"blocks": blocks, "threads": 1_024, "shared": 16_384}
    backend.launch(
        "shared_march", 4_096, 3, 77, 2, 4_095, 8, 1, seen, sram.SEEN_MAX, log.array, **shape
    )
    found = log.read()
    # Five reads of six elements see the cell, in each of three rounds.
    assert (found.count, found.first, found.bits) == (15, 4_095, 8)
    assert {example.sm for example in found.examples} == {2}
    assert int(backend.fetch(seen).sum()) == blocks


def test_a_launch_that_is_lost_is_counted(backend: Backend) -> None:
    hit = told(backend, launches.PROBE, Fault(probe="launches", kind="drop"))
    assert (hit.verdict, hit.evidence["counted"]) == ("fail", 399)
    again = told(backend, launches.PROBE, Fault(probe="launches", kind="drop", persistent=True))
    assert (again.verdict, again.evidence["counted"]) == ("fail", 398)


@pytest.mark.parametrize(
    ("probe", "fault"),
    [
        (bandwidth.PROBE, Fault(kind="slow", factor=0.5)),
        (bandwidth.PROBE, Fault(word=2**40)),
        (pcie.PROBE, Fault(word=2**40)),
        (pcie.PROBE, Fault(word=2**40, level=1)),
        (sram.PROBE, Fault(kind="perturb", word=2**40)),
        (sram.PROBE, Fault(kind="perturb", sm=10_000)),
        (launches.PROBE, Fault(kind="flip")),
    ],
)
def test_a_fault_that_cannot_be_put_in_is_inconclusive(
    backend: Backend, probe: Probe, fault: Fault
) -> None:
    hit = told(backend, probe, dataclasses.replace(fault, probe=probe.name))
    assert hit.verdict == "inconclusive"
    assert "gave up" not in hit.detail


class Pinned(np.ndarray):  # type: ignore[type-arg]
    """Memory of the host that a card reaches by itself."""


class Card(NumpyBackend):
    """A GPU by its name, whose memory copies at the speed it is told, whatever is asked of it."""

    name: BackendName = "cupy"

    def __init__(self, model: str, copy_gbps: float, link_gbps: float = 55.0) -> None:
        super().__init__()
        self.traits = dataclasses.replace(TRAITS, model=model, uuid="GPU-1")
        self.copy_gbps = copy_gbps
        self.link_gbps = link_gbps
        self.copied = 0
        self.sent = 0

    def launch(self, kernel: str, *arguments: Any, **shape: Any) -> None:
        super().launch(kernel, *arguments, **shape)
        if kernel == "copy_words":
            self.copied += 32 * arguments[2]

    def pinned(self, count: int, dtype: Any) -> Any:
        return super().pinned(count, dtype).view(Pinned)

    def move(self, to: Any, source: Any) -> None:
        super().move(to, source)
        if isinstance(to, Pinned) or isinstance(source, Pinned):
            self.sent += to.nbytes
        else:
            self.copied += 2 * to.nbytes

    def timed(self, work: Callable[[], None]) -> float:
        copied, sent = self.copied, self.sent
        work()
        took = (self.copied - copied) / self.copy_gbps + (self.sent - sent) / self.link_gbps
        return took / 1e6


def speed(card: Card, *faults: Fault, history: History | None = None) -> Check:
    setting = Setting(backend=card, seed=1, faults=faults, history=history or History())
    return check(bandwidth.PROBE, setting, bandwidth.Size(2**16, 9))


@pytest.mark.parametrize(
    ("gbps", "verdict"),
    [(4_300, "pass"), (4_090, "pass"), (4_080, "warn"), (3_871, "warn"), (3_869, "fail")],
)
def test_a_card_is_held_to_what_its_model_was_measured_at(gbps: float, verdict: str) -> None:
    judged = speed(Card("NVIDIA H200", gbps))
    assert (judged.verdict, judged.evidence["floor"]) == (verdict, 3_870)
    assert judged.evidence["floor_from"] == "measured"
    assert judged.evidence["copy_gbps"] == pytest.approx(gbps)


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.02, "pass"), (1.08, "warn"), (1.3, "fail"), (3.5, "fail")]
)
def test_a_card_that_is_slowed_on_purpose_is_caught(factor: float, verdict: str) -> None:
    fault = Fault(probe="bandwidth", kind="slow", factor=factor)
    judged = speed(Card("NVIDIA H200", 4_300), fault)
    assert (judged.verdict, judged.evidence["injected"]) == (verdict, 1)


class Rising(Card):
    """A card that is slow at first."""

    def timed(self, work: Callable[[], None]) -> float:
        took = super().timed(work)
        self.runs = getattr(self, "runs", 0) + 1
        return took * (1.3 if self.runs < 20 else 1.0)


def test_a_card_that_is_slow_only_at_first_is_given_time_and_no_more_than_it_needs() -> None:
    setting = Setting(backend=Rising("NVIDIA H200", 4_300), seed=1)
    judged = check(bandwidth.PROBE, setting, bandwidth.Size(2**16, 80, eager=True))
    assert judged.verdict == "pass"
    assert 17 < int(str(judged.evidence["samples"])) < 30
    slow = check(
        bandwidth.PROBE,
        Setting(backend=Card("NVIDIA H200", 3_000), seed=1),
        bandwidth.Size(2**16, 80, eager=True),
    )
    assert (slow.verdict, slow.evidence["samples"]) == ("fail", 80)


def test_a_card_is_held_to_its_own_past_and_a_model_nobody_knows_to_that_alone() -> None:
    history = History({"GPU-1": {"quick/copy_gbps": [1_000.0] * 5}})
    for gbps, verdict in ((990.0, "pass"), (940.0, "warn"), (760.0, "warn"), (740.0, "fail")):
        judged = speed(Card("NVIDIA Z1", gbps), history=History(dict(history.figures)))
        assert (judged.verdict, judged.evidence["baseline"]) == (verdict, 1_000.0)
        assert "its own past only" in str(judged.evidence["floor_from"])
    assert "no floor is known" in speed(Card("NVIDIA Z1", 1.0)).detail


def test_a_slow_link_warns_and_one_that_is_trained_down_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(gbps: float) -> Check:
        setting = Setting(backend=Card("NVIDIA H200", 4_300, gbps), seed=1)
        return check(pcie.PROBE, setting, pcie.Size(2**16, 1))

    monkeypatch.setattr(link, "link", lambda pci: None)
    assert (judged(55.0).verdict, judged(30.0).verdict) == ("pass", "warn")
    monkeypatch.setattr(link, "link", lambda pci: link.Link(5, 5, 8, 16))
    assert judged(28.0).verdict == "fail"
    assert "x8, and could be generation 5 x16" in judged(28.0).detail
    for resting in (link.Link(5, 5, 16, 16), link.Link(1, 5, 16, 16)):
        monkeypatch.setattr(link, "link", lambda pci, resting=resting: resting)
        assert judged(55.0).verdict == "pass"


def test_memory_that_does_not_hold_a_word_when_it_was_just_had_fails() -> None:
    class Forgetful(NumpyBackend):
        def launch(self, kernel: str, *arguments: Any, **shape: Any) -> None:
            if kernel != "strike_stick":
                super().launch(kernel, *arguments, **shape)

        def empty(self, count: int, dtype: Any) -> Any:
            return np.zeros(count, dtype)

    setting = Setting(backend=Forgetful(), seed=1)
    hit = check(launches.PROBE, setting, launches.Size(200, 2**16))
    assert (hit.verdict, hit.evidence["spots_wrong"]) == ("fail", launches.SPOTS)
