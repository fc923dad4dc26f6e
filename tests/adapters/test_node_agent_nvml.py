"""Devices read through NVML: who they are, what they drew, which the driver has lost."""

import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
from meshkit.clock import SystemClock
from meshkit.errors import ConfigError
from meshkit.testing import test_id
from node_agent.devices import events, nvml, open_devices
from node_agent.devices.events import XidEvents
from node_agent.devices.rehearsal import Rehearsal
from node_agent.domain.energy import Busy, Use
from node_agent.domain.xid import Xid
from node_agent.metering import NodeMeter
from node_agent.settings import AgentSettings
from node_agent.telling import Teller

pytestmark = pytest.mark.slow

SECOND = Busy(elapsed_us=1_000_000, total_us=0, devices_us={})


class Driver:
    """A stand-in for NVML with two devices, whose energy counters a test sets (millijoules)."""

    class NVMLError(Exception):
        """What NVML raises."""

        value = 999

    NVML_ERROR_GPU_IS_LOST = 15
    NVMLError_GpuIsLost = type("NVMLError_GpuIsLost", (NVMLError,), {"value": NVML_ERROR_GPU_IS_LOST})
    NVMLError_NotSupported = type("NVMLError_NotSupported", (NVMLError,), {})
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(self) -> None:
        self.energy = [5_000, 7_000]
        self.present = True
        self.lost: set[int] = set()
        self.uncounted: set[int] = set()
        self.slow_s = 0.0
        self.cut: set[int] = set()
        self.limit_mw: int | None = 699_900

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.present:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.energy)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetPciInfo(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(busId=f"00000000:1{handle}:00.0")

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return f"GPU-{handle}"

    def nvmlDeviceGetName(self, handle: int) -> bytes:  # noqa: N802
        return b"NVIDIA H200"

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:  # noqa: N802
        if not self.cut:
            raise self.NVMLError_NotSupported("Not Supported")
        return [int(handle in self.cut), 0]

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(total=143_771 * 1024**2)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:  # noqa: N802
        if handle in self.lost:
            raise self.NVMLError_GpuIsLost("GPU is lost")
        if handle in self.uncounted:
            raise self.NVMLError_NotSupported("Not Supported")
        time.sleep(self.slow_s)
        return self.energy[handle]

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:  # noqa: N802
        if self.limit_mw is None:
            raise self.NVMLError("Not Supported")
        return self.limit_mw


class Eventful(Driver):
    """A driver whose first two sets of events do not work, and that makes no other at first; the third tells of an error of handle 2."""

    NVML_ERROR_TIMEOUT = 10
    nvmlEventTypeXidCriticalError = 8  # noqa: N815
    made = freed = refused = 0

    def nvmlEventSetCreate(self) -> int:  # noqa: N802
        if self.made == 1 and self.refused < 2:
            self.refused += 1
            raise self.NVMLError("Unknown Error")
        self.made += 1
        return self.made

    def nvmlEventSetFree(self, events: int) -> None:  # noqa: N802
        self.freed += 1

    def nvmlDeviceRegisterEvents(self, handle: int, kinds: int, events: int) -> None:  # noqa: N802
        if handle == 1 and events > 1:
            raise self.NVMLError_GpuIsLost("GPU is lost")

    def nvmlEventSetWait_v2(self, events: int, within_ms: int) -> Any:  # noqa: N802
        if events < 3:
            raise self.NVMLError_GpuIsLost("GPU is lost")
        return SimpleNamespace(device=2, eventData=48)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    made = Driver()
    monkeypatch.setattr(nvml, "pynvml", made)
    return made


def test_real_devices_are_described_and_their_counters_become_energy(driver: Driver) -> None:
    devices = nvml.Nvml()
    assert [(d.device_id, d.model, d.memory_mib, d.rehearsal) for d in devices.listed()] == [
        ("GPU-0", "NVIDIA H200", 143_771, False),
        ("GPU-1", "NVIDIA H200", 143_771, False),
    ]
    assert not any(d.mig for d in devices.listed())
    driver.energy = [5_070, 7_100]
    first = devices.draw(SECOND)
    assert first is not None
    assert first.devices_uj == {"GPU-0": 70_000, "GPU-1": 100_000}
    driver.energy = [5_770, 7_200]
    second = devices.draw(SECOND)
    assert second is not None
    assert (second.energy_uj, second.idle_uj) == (800_000, 170_000)


def test_a_real_device_says_whether_it_is_in_mig_mode_now(driver: Driver) -> None:
    driver.cut = {1}
    assert [device.mig for device in nvml.Nvml().listed()] == [False, True]


def test_the_first_rehearsal_gpus_are_in_mig_mode_where_that_is_said(tmp_path: Path) -> None:
    listed = Rehearsal("n1", 3, tmp_path, mig=2).listed()
    assert [device.mig for device in listed] == [True, True, False]


def test_a_look_too_soon_for_a_counter_to_move_is_no_idle_power(driver: Driver) -> None:
    devices = nvml.Nvml()
    driver.energy = [5_070, 7_100]
    devices.draw(SECOND)
    devices.draw(Busy(elapsed_us=3_000, total_us=0, devices_us={}))
    driver.energy = [5_770, 7_200]
    drawn = devices.draw(SECOND)
    assert drawn is not None
    assert (drawn.energy_uj, drawn.idle_uj) == (800_000, 170_000)


def test_the_most_that_devices_can_draw_is_their_limits_together_or_unknown(driver: Driver) -> None:
    assert nvml.Nvml().full_power_w == 1_400
    driver.limit_mw = None
    assert nvml.Nvml().full_power_w is None


def test_a_counter_that_fell_is_unknown_energy_not_negative_energy(driver: Driver) -> None:
    devices = nvml.Nvml()
    driver.energy = [10, 7_100]
    assert devices.draw(SECOND) is None
    driver.energy = [20, 7_200]
    drawn = devices.draw(SECOND)
    assert drawn is not None
    assert drawn.energy_uj == 110_000


def test_a_device_that_is_lost_stops_no_meter_and_is_counted_once_it_is_back(driver: Driver) -> None:
    devices = nvml.Nvml()
    driver.energy = [5_070, 7_100]
    devices.draw(SECOND)
    driver.lost = {1}
    driver.energy = [5_140, 7_200]
    drawn = devices.draw(SECOND)
    assert drawn is not None
    assert drawn.devices_uj == {"GPU-0": 70_000, "GPU-1": 0}
    driver.lost = set()
    driver.energy = [5_210, 7_300]
    drawn = devices.draw(SECOND)
    assert drawn is not None
    assert drawn.devices_uj == {"GPU-0": 70_000, "GPU-1": 200_000}
    assert drawn.idle_uj == 170_000


def test_a_device_without_a_counter_is_named_at_the_start(driver: Driver, tmp_path: Path) -> None:
    driver.uncounted = {0}
    settings = AgentSettings(nats_url="nats://127.0.0.1:1", agent_data_dir=tmp_path, agent_name="n1")
    with pytest.raises(ConfigError, match=r"Not Supported.*nvidia-smi"):
        open_devices(settings)


def test_an_agent_that_starts_beside_a_lost_device_lists_it_as_it_was_and_says_that_it_is_gone(
    driver: Driver, tmp_path: Path
) -> None:
    whole = nvml.Nvml(tmp_path).listed()
    driver.lost = {0}
    devices = nvml.Nvml(tmp_path)
    assert (devices.listed(), list(devices.gone)) == (whole, [0])
    assert devices.buses() == ["", "00000000:11:00.0"]
    driver.energy = [9_000, 7_100]
    drawn = devices.draw(SECOND)
    assert drawn is not None
    assert drawn.devices_uj == {"GPU-0": 0, "GPU-1": 100_000}
    driver.lost = set()
    driver.energy = [9_010, 7_200]
    drawn = devices.draw(SECOND)
    assert drawn is not None
    assert drawn.devices_uj == {"GPU-0": 0, "GPU-1": 100_000}, "what it drew before is not known"
    assert not devices.gone
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    driver.lost = {1}
    assert [one.device_id for one in nvml.Nvml(elsewhere).listed()] == ["GPU-0", "unread-1"]
    driver.lost = {0, 1}
    with pytest.raises(nvml.NvmlAbsent):
        nvml.Nvml(tmp_path)


def test_what_was_drawn_while_the_agent_was_away_is_counted_and_is_no_idle_power(
    driver: Driver, tmp_path: Path
) -> None:
    uses: list[Use] = []
    before = NodeMeter(nvml.Nvml(), tmp_path, lambda: uses, SystemClock())
    driver.energy = [5_070, 7_100]
    before.look("node")
    driver.energy = [6_070, 8_100]
    after = NodeMeter(nvml.Nvml(), tmp_path, lambda: uses, SystemClock())
    after.look("node")
    told: list[Any] = []
    after.tell(Teller(told.append, test_id("node"), "fr-idf-1", SystemClock()))
    [fact] = told
    assert (fact.epoch, fact.counter_uj) == (1, 2_170_000)


def test_counters_of_an_epoch_that_ended_are_told_before_those_of_the_next(
    driver: Driver, tmp_path: Path
) -> None:
    meter = NodeMeter(nvml.Nvml(), tmp_path, list, SystemClock())
    driver.energy = [5_070, 7_100]
    meter.look("node")
    driver.energy = [10, 20]
    meter.look("node")
    told: list[Any] = []
    for _ in range(2):
        meter.tell(Teller(told.append, test_id("node"), "fr-idf-1", SystemClock()))
    assert [(fact.epoch, fact.counter_uj) for fact in told] == [(1, 170_000), (2, 0), (2, 0)]


def test_a_read_that_takes_too_long_says_nothing_of_idle_power(driver: Driver) -> None:
    devices = nvml.Nvml()
    driver.energy = [5_070, 7_100]
    devices.draw(SECOND)
    driver.slow_s = 2 * nvml.READ_WITHIN_S
    drawn = devices.draw(SECOND)
    assert drawn is not None
    assert drawn.energy_uj == 0, "it is counted with the next look"
    time.sleep(driver.slow_s * len(driver.energy))
    driver.slow_s = 0.0
    for energy in ([5_210, 7_300], [5_280, 7_400]):
        driver.energy = energy
        drawn = devices.draw(SECOND)
        assert drawn is not None
    assert drawn.idle_uj == 170_000


def test_without_a_driver_the_agent_says_what_to_do(driver: Driver, tmp_path: Path) -> None:
    driver.present = False
    settings = AgentSettings(nats_url="nats://127.0.0.1:1", agent_data_dir=tmp_path, agent_name="n1")
    with pytest.raises(ConfigError, match="install the NVIDIA driver, or set AGENT_DEVICES=rehearsal"):
        open_devices(settings)


def test_a_set_of_events_that_fails_is_made_anew_without_the_lost_device(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "AGAIN_S", 0.01)
    driver, told = Eventful(), SimpleQueue[Xid]()
    waiting = XidEvents(driver, [1, 2], told.put)
    waiting.start()
    assert told.get(timeout=5) == Xid(1, 48)
    waiting.stop()
    assert driver.made >= 3
    assert driver.refused == 2, "it was tried on"
    assert driver.freed == driver.made - 1
    assert caplog.text.count("waiting for events failed") == 1
