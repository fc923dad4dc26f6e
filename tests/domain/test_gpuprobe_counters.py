"""Counters and sensors of a card: what moves during a run counts, and what cannot be read is left out."""

from types import SimpleNamespace
from typing import Any

import pytest
from gpuprobe import counters
from gpuprobe.counters import Moved, Mute, Watch, judge
from gpuprobe.nvml import Nvml, named_reasons
from gpuprobe.on_numpy import NumpyBackend


class Library:
    """NVML as far as a driver of some age knows it; ``values`` by function, or by function and arguments."""

    def __init__(self, **values: Any) -> None:
        self.values = values
        self.events: list[int] = []

    def __getattr__(self, name: str) -> Any:
        if name not in self.values:
            raise AttributeError(name)

        def function(_: Any, *arguments: Any) -> Any:
            value = self.values[name]
            if isinstance(value, dict):
                value = value.get(arguments)
            if value is None:
                raise RuntimeError("Not Supported")
            return value

        return function

    def nvmlEventSetCreate(self) -> str:  # noqa: N802 - the library's name
        return "events"

    def nvmlDeviceRegisterEvents(self, _: Any, types: int, events: str) -> None:  # noqa: N802
        assert (types, events) == (8, "events")

    def nvmlEventSetWait_v2(self, events: str, timeout_ms: int) -> Any:  # noqa: N802
        assert (events, timeout_ms) == ("events", 0)
        if not self.events:
            raise RuntimeError("Timeout")
        return SimpleNamespace(eventData=self.events.pop(0))


def library(**values: Any) -> Library:
    return Library(
        **{
            "nvmlDeviceGetTotalEccErrors": {(0, 0): 4, (1, 0): 0},
            "nvmlDeviceGetMemoryErrorCounter": {(0, 0, 2): 4, (1, 0, 2): 0, (1, 0, 7): 0},
            "nvmlDeviceGetRemappedRows": (1, 0, 0, 0),
            "nvmlDeviceGetPcieReplayCounter": 12,
            "nvmlDeviceGetNvLinkErrorCounter": {(0, 0): 0, (0, 1): 0, (17, 2): 5},
            "nvmlDeviceGetViolationStatus": {(1,): SimpleNamespace(violationTime=5_000_000)},
            "nvmlDeviceGetFieldValues": [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=0))],
            **values,
        }
    )


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


def watched(before: Library, **after: Any) -> counters.Moved:
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
        ({"nvmlDeviceGetNvLinkErrorCounter": {(0, 0): 0, (0, 1): 1}}, "fail", "nvlink0_recovery"),
        ({"nvmlDeviceGetNvLinkErrorCounter": {(0, 0): 3, (0, 1): 0}}, "warn", "nvlink0_replay"),
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
