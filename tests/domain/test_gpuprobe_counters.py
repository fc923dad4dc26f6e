"""Counters and sensors of a card: what moves during a run counts, and what cannot be read is left out."""

from types import SimpleNamespace
from typing import Any

import pytest
from gpuprobe import counters, levels
from gpuprobe.counters import Mute, Watch
from gpuprobe.moved import RESET_IDLE, RETIRE, UNREAD, Moved, judge
from gpuprobe.nvml import Nvml, named_reasons
from gpuprobe.on_numpy import NumpyBackend
from gpuprobe.verdict import COOL


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


@pytest.mark.parametrize(
    ("policy", "said"), [(3, "limit of the board"), (5, "reliability"), (1, "heat"), (0, None)]
)
def test_a_clock_held_down_by_the_driver_warns_unless_only_the_power_it_may_draw_does(
    policy: int, said: str | None
) -> None:
    held = {(policy,): SimpleNamespace(violationTime=0)}
    card = library(
        nvmlDeviceGetViolationStatus=held,
        nvmlDeviceGetEnforcedPowerLimit=700_000,
        nvmlDeviceGetPowerManagementDefaultLimit=700_000,
    )
    watch = Watch(Nvml(card, "card"))
    held[policy,] = SimpleNamespace(violationTime=101 * 10**6)
    assert watch.check(0).verdict == ("warn" if said else "pass")
    assert (said or "none of") in watch.check(0).detail
    card.values["nvmlDeviceGetEnforcedPowerLimit"] = 500_000
    limited = watch.check(0)
    assert limited.verdict == "warn"
    assert said or "500 W" in limited.detail


@pytest.mark.parametrize(("bit", "name"), [(0x8, "hardware"), (0x40, "thermal"), (0x80, "brake")])
def test_a_clock_held_down_by_the_hardware_is_seen_between_checks_at_every_level(
    bit: int, name: str
) -> None:
    card = library(nvmlDeviceGetCurrentClocksEventReasons=0x5)
    watch = Watch(Nvml(card, "card"))
    watch.look()
    assert watch.check(0).verdict == "pass"
    card.values["nvmlDeviceGetCurrentClocksEventReasons"] = bit | 0x4
    watch.look()
    once = watch.check(0)
    assert (once.verdict, once.action, name in once.detail) == ("warn", COOL, True)
    watch.look()
    twice = watch.check(0)
    assert (twice.verdict, twice.action) == ("fail", COOL)
    assert twice.evidence["slowdowns_seen"] == 2


@pytest.mark.parametrize(("ms", "verdict"), [(0, "pass"), (20, "warn"), (200, "fail")])
def test_a_clock_held_down_by_the_hardware_is_counted_where_the_driver_counts_it(
    ms: int, verdict: str
) -> None:
    brake = SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=0, ullVal=7_000_000))
    watch = Watch(Nvml(library(nvmlDeviceGetFieldValues=[brake]), "card"))
    brake.value.ullVal += ms * 10**6
    said = watch.check(0)
    assert said.verdict == verdict
    assert ("power brake" in said.detail) == (verdict != "pass")


def test_every_check_of_a_level_is_followed_by_a_look_at_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = library(nvmlDeviceGetCurrentClocksEventReasons=0x80)
    monkeypatch.setattr(counters, "begin", lambda _: Watch(Nvml(card, "card")))
    wish = levels.Wish(backend="numpy", only=("pcie", "sram"))
    said = levels.run([0], seed=1, wish=wish)[-1]
    assert (said.name, said.verdict, said.evidence["slowdowns_seen"]) == ("counters", "fail", 3)


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
