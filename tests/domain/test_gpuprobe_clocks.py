"""A clock that is held down during a run: by the driver or the hardware, counted or seen between checks."""

from types import SimpleNamespace

import pytest
from gpuprobe import counters, levels
from gpuprobe.counters import Watch
from gpuprobe.nvml import Nvml
from gpuprobe.verdict import COOL

from tests.domain.nvml_library import library


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


@pytest.mark.parametrize(
    ("bit", "name", "at_worst"),
    [(0x8, "hardware", "warn"), (0x48, "thermal", "fail"), (0x80, "brake", "fail")],
)
def test_a_clock_held_down_by_the_hardware_is_seen_between_checks_at_every_level(
    bit: int, name: str, at_worst: str
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
    assert (twice.verdict, twice.action) == (at_worst, COOL)
    assert twice.evidence["slowdowns_seen"] == 2


def test_a_slowdown_told_of_while_the_clock_changes_and_gone_at_once_is_none() -> None:
    class Changing(Nvml):
        """A card that tells of a slowdown every other time it is asked."""

        told = 0

        def reasons(self) -> int:
            """Return the hardware's slowdown, or nothing."""
            self.told += 1
            return 0x8 * (self.told % 2)

    watch = Watch(Changing(library(), "card"))
    for _ in range(5):
        watch.look()
    assert watch.check(0).verdict == "pass"


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
