"""Counters and sensors of a card: what moves during a run counts, and what cannot be read is left out."""

from types import SimpleNamespace
from typing import Any

import pytest
from gpuprobe import counters
from gpuprobe.counters import Mute, Watch
from gpuprobe.moved import RESET_IDLE, RETIRE, UNREAD, Moved, judge
from gpuprobe.nvml import Nvml, named_reasons
from gpuprobe.on_numpy import NumpyBackend

from tests.domain.nvml_library import Library, library


def test_what_a_driver_does_not_know_is_left_out_and_the_rest_is_read() -> None:
    said = Nvml(library(), "card").counters()
    assert said == {
        "ecc_corrected": 4,
        "ecc_corrected_dram": 4,
        "ecc_uncorrected": 0,
        "ecc_uncorrected_dram": 0,
        "ecc_uncorrected_sram": 0,
        "rows_corrected": 1,
        "rows_uncorrected": 0,
        "rows_pending": 0,
        "rows_failed": 0,
        "pcie_replay": 12,
        "nvlink0_replay": 0,
        "nvlink0_recovery": 0,
        "nvlink17_crc_flit": 5,
        "held_thermal_us": 5_000,
    }
    assert Nvml(Library(), "card").counters() == {}


def test_a_sample_says_what_the_sensors_say_and_none_of_what_they_do_not() -> None:
    sensors = Library(
        nvmlDeviceGetPowerUsage=654_321,
        nvmlDeviceGetTemperature={(0,): 61},
        nvmlDeviceGetClockInfo={(1,): 1_755},
        nvmlDeviceGetCurrentClocksThrottleReasons=0x44,
    )
    sample = Nvml(sensors, "card").sample()
    assert (sample.power_w, sample.temperature_c, sample.sm_mhz) == (654.321, 61, 1_755)
    assert (sample.memory_mhz, sample.reasons) == (None, 0x44)
    assert named_reasons(0x45) == ["power cap", "hardware thermal slowdown"]


def watched(before: Library, **after: Any) -> Moved:
    watch = Watch(Nvml(before, "card"))
    before.values |= after
    return watch.moved()


def test_counters_that_stand_still_pass_whatever_they_stand_at() -> None:
    card = library()
    moved = watched(card)
    assert moved == Moved({})
    assert judge(moved, 14).verdict == "pass"


@pytest.mark.parametrize(
    ("after", "verdict", "said"),
    [
        ({"nvmlDeviceGetMemoryErrorCounter": {(1, 0, 2): 1}}, "fail", "ecc_uncorrected_dram"),
        ({"nvmlDeviceGetRemappedRows": (1, 1, 1, 0)}, "fail", "given up"),
        ({"nvmlDeviceGetRemappedRows": (1, 0, 1, 0)}, "fail", "next reset"),
        ({"nvmlDeviceGetRemappedRows": (1, 0, 0, 1)}, "fail", "could not be replaced"),
        ({"nvmlDeviceGetRemappedRows": (2, 0, 0, 0)}, "warn", "rows_corrected"),
        ({"nvmlDeviceGetTotalEccErrors": {(0, 0): 5, (1, 0): 0}}, "warn", "ecc_corrected"),
        (
            {"nvmlDeviceGetNvLinkErrorCounter": {(0, 0): 0, (0, 1): 1, (17, 2): 5}},
            "fail",
            "nvlink0_recovery",
        ),
        (
            {"nvmlDeviceGetNvLinkErrorCounter": {(0, 0): 3, (0, 1): 0, (17, 2): 5}},
            "warn",
            "nvlink0_replay",
        ),
        ({"nvmlDeviceGetPcieReplayCounter": 15}, "pass", "none of"),
        ({"nvmlDeviceGetPcieReplayCounter": 100}, "warn", "88 packets"),
        (
            {"nvmlDeviceGetViolationStatus": {(1,): SimpleNamespace(violationTime=9 * 10**8)}},
            "warn",
            "held down 895 ms",
        ),
        (
            {
                "nvmlDeviceGetFieldValues": [
                    SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=4))
                ]
            },
            "fail",
            "drain_and_reset",
        ),
    ],
)
def test_a_counter_that_moves_is_judged_by_what_it_counts(
    after: dict[str, Any], verdict: str, said: str
) -> None:
    finding = judge(watched(library(), **after), 14)
    assert finding.verdict == verdict, finding
    assert said in finding.detail
    assert (finding.action is None) == (verdict == "pass")


def test_an_xid_of_the_card_fails_and_one_of_the_check_itself_does_not() -> None:
    card = library()
    watch = Watch(Nvml(card, "card"))
    card.events = [13, 43]
    assert watch.check(0).verdict == "pass"
    card.events = [31, 79, 63]
    said = watch.check(3)
    assert (said.verdict, said.device) == ("fail", 3)
    assert said.evidence["xids"] == [31, 79, 63]
    assert "[79]" in said.detail


@pytest.mark.parametrize(
    ("rows", "verdict", "action"),
    [
        ((1, 0, 1, 0), "warn", RESET_IDLE),
        ((1, 0, 0, 1), "fail", RETIRE),
        ((1, 0, 1, 1), "fail", RETIRE),
        ((9, 2, 0, 0), "pass", None),
    ],
)
def test_rows_that_wait_or_failed_before_the_run_are_judged_though_nothing_moves(
    rows: tuple[int, ...], verdict: str, action: str | None
) -> None:
    said = Watch(Nvml(library(nvmlDeviceGetRemappedRows=rows), "card")).check(0)
    assert (said.verdict, said.action) == (verdict, action)


@pytest.mark.parametrize("gone", ["nvmlDeviceGetRemappedRows", "nvmlDeviceGetPcieReplayCounter", ""])
def test_a_counter_that_is_gone_after_the_run_may_have_moved_and_is_no_pass(gone: str) -> None:
    card = library()
    watch = Watch(Nvml(card, "card"))
    for name in [gone] if gone else list(card.values):
        del card.values[name]
    said = watch.check(0)
    assert (said.verdict, said.action) == ("inconclusive", UNREAD)
    assert "not after it" in said.detail


def test_an_error_of_the_card_fails_it_even_where_its_counters_are_gone() -> None:
    card = library()
    watch = Watch(Nvml(card, "card"))
    card.values.clear()
    card.events = [79]
    assert watch.check(0).verdict == "fail"


def test_a_storm_of_events_is_read_up_to_a_bound() -> None:
    card = library()
    watch = Watch(Nvml(card, "card"))
    card.events = [13] * 1_000
    assert len(watch.moved().xids) == 64


def test_a_card_without_a_counter_is_inconclusive_never_a_pass() -> None:
    said = Watch(Mute()).check(0)
    assert said.verdict == "inconclusive"
    assert said.evidence["xids_watched"] == 0


def test_the_host_has_no_counters_to_watch() -> None:
    assert counters.begin(NumpyBackend()) is None


def test_many_counters_that_move_leave_the_evidence_small() -> None:
    finding = judge(Moved({f"nvlink{n}_replay": 1 for n in range(200)}), 300)
    assert len(finding.evidence) < 24
