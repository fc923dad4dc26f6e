"""The matrix of injected faults: found, placed, and nothing sound called wrong; small here, full on request."""

import json
import sys

import pytest
from gpuprobe import matrix, matrix_checks, matrix_gemm
from gpuprobe.matrix_gemm import MODELS, Tally
from gpuprobe.probes import BY_NAME
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
    assert {tally.probe for tally in report.tallies} >= set(BY_NAME) - {"bandwidth", "retention"}
    assert report.clean_runs["gemm"] == SOUND
    assert json.loads(json.dumps(report.as_json()))["holds"] is True


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
    def broken(*_: object) -> int:
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
