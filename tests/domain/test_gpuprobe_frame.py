"""The frame of the checks: one source run three ways, slices, histories, faults, and a worker."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpuprobe import levels, source, worker
from gpuprobe.fault import Fault, FaultUnusable, parse_fault
from gpuprobe.history import SAMPLES_MAX, History
from gpuprobe.on_numpy import NumpyBackend
from gpuprobe.probe import SLICE_MS, NoRoom, Pace, Probe, Setting, Stopped, check
from gpuprobe.reference import REFERENCES
from gpuprobe.verdict import AGAIN, Finding

from tests.domain.probing import BACKENDS, opened


def test_every_kernel_has_a_reference_and_every_reference_a_kernel() -> None:
    assert set(REFERENCES) == set(source.kernels())


@pytest.mark.parametrize(
    ("kernel", "numbers"),
    [
        ("strike_flip", (5, 3, 7, 0x80000011)),
        ("strike_flip", (0, 1, 1, 1)),
        ("strike_stick", (5, 3, 7, 0xF0, 0x50)),
        ("strike_alias", (1_000, 64)),
    ],
)
def test_the_source_strikes_as_its_reference_does(kernel: str, numbers: tuple[int, ...]) -> None:
    words = np.random.default_rng(3).integers(0, 2**32, 1_000, dtype=np.uint32)
    by_reference = words.copy()
    NumpyBackend().launch(kernel, by_reference, *numbers)
    assert not np.array_equal(by_reference, words)
    for backend in map(opened, BACKENDS):
        by_source = backend.put(words.copy())
        backend.launch(kernel, by_source, *numbers)
        assert np.array_equal(backend.fetch(by_source), by_reference)


class Slow(NumpyBackend):
    """A device whose time is what the work says it is."""

    def __init__(self, ms_per_item: float) -> None:
        super().__init__()
        self.ms_per_item = ms_per_item
        self.counts: list[int] = []

    def timed(self, work: Callable[[], None]) -> float:
        work()
        return self.counts[-1] * self.ms_per_item


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("ms_per_item", [0.000_1, 0.01, 1.0])
def test_slices_cover_everything_once_and_stay_short(ms_per_item: float, downwards: bool) -> None:
    device = Slow(ms_per_item)
    seen: list[int] = []

    def work(first: int, count: int) -> None:
        device.counts.append(count)
        seen.extend(range(first, first + count))

    pace = Pace(Setting(backend=device, seed=1), first=4, multiple=2)
    took = pace.run(5_001, work, downwards=downwards)
    assert sorted(seen) == list(range(5_001))
    assert max(device.counts) * ms_per_item <= SLICE_MS
    assert took == pytest.approx(pace.ms) == pytest.approx(5_001 * ms_per_item)
    starts = [seen[sum(device.counts[:n])] for n in range(len(device.counts))]
    assert starts == sorted(starts, reverse=downwards)


def test_a_stop_flag_is_read_between_two_slices() -> None:
    done: list[int] = []
    setting = Setting(backend=NumpyBackend(), seed=1, stop=lambda: len(done) == 2)
    with pytest.raises(Stopped):
        Pace(setting, first=1).run(10**9, lambda first, _: done.append(first))
    assert len(done) == 2


def probe(run: Callable[[Setting, Any], Finding]) -> Probe:
    return Probe("p", run, sizes={"quick": 1}, small={"quick": 2})


def raising(fault: Exception) -> Callable[[Setting, Any], Finding]:
    def run(setting: Setting, size: Any) -> Finding:
        raise fault

    return run


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Stopped(), "stopped before its end"),
        (NoRoom("12 bytes"), "12 bytes"),
        (FaultUnusable("no such word"), "no such word"),
        (KeyError("what a driver says"), "KeyError: 'what a driver says'"),
    ],
)
def test_whatever_ends_a_probe_early_is_inconclusive_with_one_action(
    fault: Exception, said: str
) -> None:
    told = check(probe(raising(fault)), Setting(backend=NumpyBackend(), seed=9), 2)
    assert (told.verdict, told.evidence["seed"]) == ("inconclusive", 9)
    assert said in told.detail
    assert told.action


def test_a_run_that_is_stopped_before_it_starts_judges_nothing() -> None:
    told = levels.run([0], seed=1, wish=levels.Wish(backend="numpy"), stop=lambda: True)
    assert told
    assert {one.verdict for one in told} == {"inconclusive"}


def test_what_the_time_or_the_part_leaves_out_is_never_a_pass() -> None:
    told = levels.run([0], seed=1, wish=levels.Wish(backend="numpy", budget_s=-1.0))
    assert {(one.verdict, one.took_ms) for one in told} == {("inconclusive", 0)}
    whole = [one.name for one in told]
    parts = [
        [
            c.name
            for c in levels.run(
                [0], seed=1, wish=levels.Wish(backend="numpy", budget_s=-1.0, part=(n, 3))
            )
        ]
        for n in (1, 2, 3)
    ]
    assert sorted(name for part in parts for name in part) == sorted(whole)


def test_only_a_clean_pass_enters_a_cards_history() -> None:
    history = History()

    def run(setting: Setting, size: Any) -> Finding:
        return Finding(verdict="pass", detail="fast", measured={"copy_gbps": 4_000.0})

    for faults in ([], [Fault(probe="p")], [Fault(probe="q")]):
        setting = Setting(backend=NumpyBackend(), seed=1, history=history, faults=faults)
        assert check(probe(run), setting, 2).evidence["copy_gbps"] == 4_000.0
    assert history.figures == {"host": {"quick/copy_gbps": [4_000.0, 4_000.0]}}


def test_a_history_needs_five_samples_and_keeps_the_newest(tmp_path: Path) -> None:
    history = History()
    for value in range(4):
        history.add("GPU-1", "deep", {"x": float(value)})
    assert history.baseline("GPU-1", "deep", "x") is None
    history.add("GPU-1", "deep", {"x": 100.0})
    known = history.baseline("GPU-1", "deep", "x")
    assert known is not None
    assert known.usual == 2.0
    assert history.baseline("GPU-1", "quick", "x") is None
    for _ in range(SAMPLES_MAX):
        history.add("GPU-1", "deep", {"x": 7.0})
    history.write(tmp_path / "h.json")
    again = History.read(tmp_path / "h.json")
    assert again.figures == {"GPU-1": {"deep/x": [7.0] * SAMPLES_MAX}}
    assert History.read(tmp_path / "none.json") == History()
    (tmp_path / "old.json").write_text('{"GPU-1": {"x": [1.0], "deep/x": [2.0]}}')
    assert History.read(tmp_path / "old.json").figures == {"GPU-1": {"deep/x": [2.0]}}
    (tmp_path / "bad.json").write_text("[1]")
    with pytest.raises(ValueError, match="holds no history"):
        History.read(tmp_path / "bad.json")


def test_a_finding_that_is_no_pass_has_an_action_and_a_pass_has_none() -> None:
    with pytest.raises(AssertionError):
        Finding(verdict="fail", detail="broken")
    with pytest.raises(AssertionError):
        Finding(verdict="pass", detail="sound", action=AGAIN)


def test_a_fault_of_any_probe_is_read() -> None:
    assert parse_fault("memory_hash:flip,word=123,mask=0x11,stride=32,count=8,persistent") == Fault(
        probe="memory_hash", word=123, mask=0x11, stride=32, count=8, persistent=True
    )
    assert parse_fault("bandwidth:slow,factor=1.3") == Fault(probe="bandwidth", kind="slow", factor=1.3)


def test_room_is_what_is_wanted_free_and_allowed_and_too_little_says_so() -> None:
    setting = Setting(backend=NumpyBackend(), seed=1, memory_bytes_max=2**20)
    assert setting.room(2**30, 1) == 2**20
    assert setting.room(4_096, 1) == 4_096
    with pytest.raises(NoRoom, match="1048576 bytes"):
        setting.room(2**30, 2**21)


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Let ``python -m gpuprobe`` be another program."""
    package = folder / "gpuprobe"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))


def test_a_child_that_never_answers_is_killed_and_the_node_is_to_be_cordoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)\n"
    stand_in(tmp_path, monkeypatch, body)
    monkeypatch.setattr(worker, "ASKED_S", 0.05)
    began = time.monotonic()
    told = worker.run([], [0, 3], 0.3)
    assert time.monotonic() - began < 30
    assert [(one.device, one.verdict) for one in told] == [(0, "inconclusive"), (3, "inconclusive")]
    assert "hangs" in told[0].detail
    assert told[0].action is not None
    assert "cordon" in told[0].action


def test_a_child_that_stops_when_asked_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = tmp_path / "ready"
    one = {
        "name": "p",
        "device": 0,
        "verdict": "inconclusive",
        "backend": "cupy",
        "took_ms": 1,
        "detail": "d",
    }
    body = (
        "import signal, sys, time\n"
        f"def stop(*_):\n    print({json.dumps(json.dumps({'checks': [one]}))}); sys.exit(3)\n"
        f"signal.signal(signal.SIGTERM, stop)\nopen({str(ready)!r}, 'w').close()\ntime.sleep(60)\n"
    )
    stand_in(tmp_path, monkeypatch, body)
    monkeypatch.setattr(worker, "ASKED_S", 20.0)

    class Ready(subprocess.Popen[bytes]):
        """A child whose deadline passes as soon as it can hear."""

        def communicate(
            self, asked: bytes | None = None, timeout: float | None = None
        ) -> tuple[bytes, bytes]:
            if timeout == 0.0:
                until = time.monotonic() + 60
                while not ready.exists() and time.monotonic() < until:
                    time.sleep(0.01)
                raise subprocess.TimeoutExpired(self.args, timeout)
            return super().communicate(asked, timeout)

    monkeypatch.setattr(subprocess, "Popen", Ready)
    assert [c.detail for c in worker.run([], [0], 0.0)] == ["d"]


def test_a_child_that_breaks_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "raise SystemExit('no driver')")
    told = worker.run([], [0], 20.0)
    assert (told[0].verdict, "status 1: no driver" in told[0].detail) == ("inconclusive", True)


def test_the_child_gets_every_argument_but_the_deadline() -> None:
    given = ["--deadline", "5", "--level", "deep", "--json", "--deadline=3", "--seed", "1"]
    assert worker.undeadlined(given) == ["--level", "deep", "--seed", "1"]


def test_nothing_is_begun_once_memory_was_waited_for_and_the_device_is_wanted() -> None:
    class Clearing(NumpyBackend):
        """A device whose driver takes its time to hand memory out."""

        def empty(self, count: int, dtype: Any) -> Any:
            """Return memory; meanwhile the device is wanted."""
            wanted.append(count)
            return super().empty(count, dtype)

    wanted: list[int] = []
    setting = Setting(backend=Clearing(), seed=1, stop=lambda: bool(wanted))
    with pytest.raises(Stopped):
        setting.memory(2**20, 2**10)
    assert len(wanted) == 1
    with pytest.raises(Stopped):
        setting.memory(2**21, 2**10)
    assert len(wanted) == 1
