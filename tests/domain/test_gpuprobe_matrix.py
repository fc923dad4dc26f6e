"""The matrix of injected faults: found, placed, and nothing sound called wrong; small here, full on request."""

import dataclasses
import json
import sys
from typing import Any

import pytest
from gpuprobe import matrix, matrix_checks, matrix_gemm
from gpuprobe.matrix_gemm import MODELS, Tally
from gpuprobe.pcie import RESEAT
from gpuprobe.probe import Probe, Setting
from gpuprobe.probes import BY_NAME
from gpuprobe.verdict import Check, Evidence, Finding, Verdict
from mesh_tools.bench import probe as bench_probe

from tests.domain.probing import opened

pytestmark = pytest.mark.slow

FAULTS, SOUND = 8, 40
FAULTS_IN_FULL, SOUND_IN_FULL = 1_000, 10_000


def told(faults: int, sound: int) -> matrix.Report:
    report = matrix.run(opened("host"), faults, sound, seed=11)
    assert report.broken == {}
    return report


def test_the_matrix_holds_and_comparing_a_device_with_itself_does_not() -> None:
    report = told(FAULTS, SOUND)
    assert report.holds, matrix.table(report)
    by_name = {tally.model: tally for tally in report.tallies if tally.probe == "gemm"}
    assert set(by_name) == set(MODELS)
    assert all(by_name[name].self_compared == 0 for name in by_name if "persistent" in name)
    assert {tally.probe for tally in report.tallies} == set(BY_NAME)
    assert set(report.clean_runs) == set(BY_NAME)
    assert report.clean_runs["gemm"] == SOUND
    assert json.loads(json.dumps(report.as_json()))["holds"] is True


def test_what_has_no_place_is_not_said_to_be_placed() -> None:
    unplaced = Tally("launches", "launch left out", injected=4, changed=4, detected=4, located=None)
    placed = Tally("pcie", "bits", injected=4, changed=4, detected=4, located=4)
    unfound = Tally("pcie", "bits", injected=4, changed=4)
    report = matrix.Report("host", "host", [unplaced, placed])
    assert report.holds
    rows = matrix.table(report).splitlines()[2:]
    assert [row.split()[-1] for row in rows] == ["-", "100.00%"]
    assert [row["location"] for row in report.as_json()["tallies"]] == [None, 1.0]
    assert unfound.location == 0.0
    modelled = {model.probe.name for model in matrix_checks.models() if model.located is None}
    assert modelled == {"launches", "soak"}


def judged(verdict: Verdict) -> Probe:
    def run(setting: Setting, size: Any) -> Finding:
        action = None if verdict == "pass" else "look"
        evidence: Evidence = {"floor_from": "measured"}
        return Finding(verdict=verdict, detail="said", action=action, evidence=evidence)

    return Probe("bandwidth", run, {}, {})


@pytest.mark.parametrize("verdict", ["pass", "warn", "fail", "inconclusive"])
def test_a_sound_run_that_is_called_anything_but_well_is_a_false_alarm(verdict: Verdict) -> None:
    model = dataclasses.replace(matrix_checks.models()[0], probe=judged(verdict))
    alarms = 0 if verdict == "pass" else 3
    assert matrix_checks.clean(opened("numpy"), model, 3, seed=1) == (alarms, 0)


def test_a_gpus_run_too_small_for_its_speed_is_excused_for_that_alone() -> None:
    said = Check(
        name="bandwidth",
        device=0,
        verdict="warn",
        backend="cupy",
        took_ms=1,
        detail="slow",
        action="look",
        evidence={"floor_from": "measured"},
    )
    assert matrix_checks.too_small(said)
    others: tuple[dict[str, Any], ...] = (
        {"backend": "host"},
        {"name": "gemm"},
        {"verdict": "inconclusive"},
        {"evidence": {}},
        {"evidence": {"floor_from": "measured", "words_wrong": 1}},
        {"action": RESEAT},
    )
    for other in others:
        assert not matrix_checks.too_small(dataclasses.replace(said, **other))


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_the_matrix_holds_in_full() -> None:
    report = told(FAULTS_IN_FULL, SOUND_IN_FULL)
    sys.stdout.write(f"\n{matrix.table(report)}\n")
    assert report.holds, matrix.table(report)


def test_a_model_that_is_missed_or_misplaced_breaks_the_matrix() -> None:
    good = Tally("gemm", "one bit", injected=10, changed=10, detected=10, located=10)
    missed = Tally("gemm", "one bit", injected=10, changed=10, detected=9, located=9)
    misplaced = Tally("gemm", "one bit", injected=10, changed=10, detected=10, located=9)
    assert matrix.Report("host", "host", [good]).holds
    assert not matrix.Report("host", "host", [good, missed]).holds
    assert not matrix.Report("host", "host", [misplaced]).holds
    assert not matrix.Report("host", "host", [good], false_alarms={"gemm": 1}).holds
    assert not matrix.Report("host", "host", [good], broken={"sram": "why"}).holds


def test_a_model_of_which_nothing_was_put_in_does_not_hold() -> None:
    assert not matrix.Report("host", "host", [Tally("gemm", "one bit")]).holds


def test_the_same_seed_puts_in_the_same_faults() -> None:
    backend = opened("numpy")
    assert matrix_gemm.run(backend, 3, seed=4) == matrix_gemm.run(backend, 3, seed=4)


def test_what_cannot_be_run_is_told_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> tuple[int, int]:
        raise OSError("no such device")

    monkeypatch.setattr(matrix_checks, "clean", broken)
    report = matrix.run(opened("host"), 1, 1, seed=1)
    assert report.broken["sram, clean"] == "OSError: no such device"
    assert len(report.tallies) == len(MODELS) + len(matrix_checks.models())
    assert not report.holds


def test_what_has_not_begun_in_time_is_left_out_and_told() -> None:
    report = matrix.run(opened("host"), 1, 1, seed=1, until=0.0)
    assert report.tallies == []
    assert set(report.broken.values()) == {"not run: the time was up"}


def test_the_benchmark_prints_the_matrix_and_ends_by_whether_it_holds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--faults", "1", "--sound", "10", "--backend", "numpy"]
    assert bench_probe.main(arguments, as_json=True) == 0
    *rows, last = capsys.readouterr().out.strip().splitlines()
    assert any(row.startswith("memory_hash") for row in rows)
    assert json.loads(last)["holds"] is True
    assert bench_probe.main([*arguments, "--within", "0"], as_json=False) == 1
    assert "the time was up" in capsys.readouterr().out
