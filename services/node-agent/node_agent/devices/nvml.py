"""Real devices through NVML: who they are, their own energy counters, the errors that they tell.

The node's energy is that of its devices alone. Each call is made from a thread of its own: a driver that hangs
does not stop the agent.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pynvml
from mesh_contracts.node import Device, Quality
from mesh_contracts.placement.nouns import MigInstance

from node_agent.devices import NoInstance
from node_agent.devices.driver import DriverThread, Stuck
from node_agent.devices.events import XidEvents
from node_agent.devices.instances import instance_of
from node_agent.devices.known import recall, remember, unread
from node_agent.domain.energy import Busy, Drawn
from node_agent.domain.xid import Xid

MIB = 1024**2
UJ_PER_MJ = 1_000
MW_PER_W = 1_000
FLOOR_SPAN_US = 500_000
"""Between two looks that follow each other closer than this a counter may simply not have moved."""

START_WITHIN_S = 30.0
READ_WITHIN_S = 0.25
"""All devices' counters, each second; a driver that takes longer is waited for by nobody."""

LOST = "the driver has lost the GPU: it does not answer on its bus"

CUT_WITHIN_S = 60.0
"""An instance and the compute instance on it."""

logger = logging.getLogger(__name__)


class NvmlAbsent(Exception):
    """NVML cannot be used here; the message says what to do."""


class Nvml:
    """The NVIDIA devices of this server."""

    rehearsal = False
    quality: Quality = "measured"
    source = "nvml: the devices' own energy counters; the host's part is not measured"

    def __init__(self, folder: Path | None = None) -> None:
        """Read the devices; who they are is kept in ``folder``. Raises ``NvmlAbsent``.

        Those that the driver has lost are listed as they were read last, and stand in ``gone``.
        """
        nvml: Any = pynvml
        self._nvml = nvml
        self._folder = folder
        self.gone: dict[int, str] = {}
        self._driver = DriverThread("nvml")
        # A cut takes longer than counters may wait to be read.
        self._cutting = DriverThread("nvml-mig")
        try:
            count = self._driver.call(self._begin, START_WITHIN_S)
        except (nvml.NVMLError, Stuck) as fault:
            raise NvmlAbsent(
                f"NVML does not answer ({fault}); install the NVIDIA driver, or set AGENT_DEVICES=rehearsal"
            ) from fault
        try:
            self._driver.call(lambda: self._know(count), START_WITHIN_S)
        except (nvml.NVMLError, Stuck) as fault:
            raise NvmlAbsent(
                f"a device cannot be read through NVML ({fault}); see nvidia-smi, and whether it has an energy counter"
            ) from fault
        self._lost: set[int] = set()
        self._floor_w = [float("inf")] * count
        self._in_time = True

    def _begin(self) -> int:
        self._nvml.nvmlInit()
        return int(self._nvml.nvmlDeviceGetCount())

    def _know(self, count: int) -> None:
        before = recall(self._folder)
        self._handles: list[Any] = [None] * count
        self._devices: list[Device] = []
        self._counters: list[int | None] = [None] * count
        self._buses = [""] * count
        for index in range(count):
            try:
                handle = self._handles[index] = self._nvml.nvmlDeviceGetHandleByIndex(index)
                self._devices.append(self._described(index, handle))
                self._counters[index] = self._energy_uj(handle)
                self._buses[index] = self._bus(handle)
            except self._nvml.NVMLError_GpuIsLost as fault:
                logger.error("device %d cannot be read: %s", index, fault)  # noqa: TRY400
                self._devices[index:] = [unread(index, before)]
                self.gone[index] = LOST
        if len(self.gone) == count > 0:
            raise self._nvml.NVMLError(self._nvml.NVML_ERROR_GPU_IS_LOST)
        if not self.gone:
            remember(self._folder, self._devices)
        self.full_power_w = self._limits_w()

    @property
    def stuck_s(self) -> float:
        """For how long a call to the driver has not come back."""
        return self._driver.stuck_s

    def watch(self, told: Callable[[Xid], None]) -> Callable[[], None]:
        """Have ``told`` called, from another thread, with each error that the driver tells; return what ends that.

        Where it tells none (an old driver, no right to hear events), that is logged once.
        """
        events = XidEvents(self._nvml, self._handles, told)
        events.start()
        return events.stop

    def recovery(self, index: int) -> int | None:
        """Return what a GPU itself says is to be done to mend it (NVML field 230); ``None`` where it does not."""
        field = getattr(self._nvml, "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION", None)
        if field is None:
            return None
        try:
            (found,) = self._driver.call(
                lambda: self._nvml.nvmlDeviceGetFieldValues(self._handles[index], [field]),
                READ_WITHIN_S,
            )
        except (self._nvml.NVMLError, Stuck):
            return None
        return int(found.value.uiVal) if found.nvmlReturn == self._nvml.NVML_SUCCESS else None

    def buses(self) -> list[str]:
        """Return the devices' PCI addresses, by index; nothing in place of one that is not told."""
        return self._buses

    def listed(self) -> Sequence[Device]:
        """Return the devices, by index."""
        return self._devices

    def probe_arguments(self) -> list[str]:
        """Return what the check is told: a GPU, or no verdict; never a reference in its place."""
        return ["--backend", "cupy"]

    def instance(self, device_id: str, mig: MigInstance) -> str:
        """Return the UUID of an instance, which is made where it is not there. Raises ``NoInstance``."""
        index = next((one.index for one in self._devices if one.device_id == device_id), None)
        if index is None:
            raise NoInstance(f"there is no device {device_id} here any more")
        handle = self._handles[index]
        try:
            return self._cutting.call(lambda: instance_of(self._nvml, handle, mig), CUT_WITHIN_S)
        except Stuck as fault:
            raise NoInstance(f"{device_id} is not cut: {fault}") from fault

    def draw(self, busy: Busy) -> Drawn | None:
        """Return what the devices' counters rose by; nothing where one fell (the driver was reloaded).

        Idle power is taken as the lowest seen so far. What a device draws that cannot be read is
        counted once it can be again.
        """
        before, was_in_time = self._counters, self._in_time
        self._counters = self._read_in_time()
        risen = [
            0 if now is None or then is None else now - then
            for now, then in zip(self._counters, before, strict=True)
        ]
        if any(energy < 0 for energy in risen):
            return None
        tells = self._in_time and was_in_time and busy.elapsed_us >= FLOOR_SPAN_US
        for index, energy in enumerate(risen):
            if tells and index not in self._lost and before[index] is not None:
                self._floor_w[index] = min(self._floor_w[index], energy / busy.elapsed_us)
        idle = sum(floor for floor in self._floor_w if floor != float("inf"))
        ids = [device.device_id for device in self._devices]
        return Drawn(
            energy_uj=sum(risen),
            idle_uj=min(sum(risen), round(idle * busy.elapsed_us)),
            devices_uj=dict(zip(ids, risen, strict=True)),
        )

    def counters(self) -> dict[str, int]:
        """Return the devices' own counters as they were read last, in microjoules."""
        return {
            device.device_id: counter
            for device, counter in zip(self._devices, self._counters, strict=True)
            if counter is not None
        }

    def resume(self, counters: Mapping[str, int]) -> None:
        """Have the next ``draw`` count from these counters on: what was drawn while nobody looked, too."""
        self._counters = [
            counters.get(device.device_id, counter)
            for device, counter in zip(self._devices, self._counters, strict=True)
        ]

    def _bus(self, handle: Any) -> str:
        try:
            return _text(self._nvml.nvmlDeviceGetPciInfo(handle).busId)
        except self._nvml.NVMLError_GpuIsLost:
            raise
        except self._nvml.NVMLError:
            return ""

    def _described(self, index: int, handle: Any) -> Device:
        nvml = self._nvml
        return Device(
            device_id=_text(nvml.nvmlDeviceGetUUID(handle)),
            index=index,
            model=_text(nvml.nvmlDeviceGetName(handle)),
            memory_mib=int(nvml.nvmlDeviceGetMemoryInfo(handle).total) // MIB,
            rehearsal=False,
            mig=self._in_mig_mode(handle),
        )

    def _in_mig_mode(self, handle: Any) -> bool:
        """Return whether a device is in MIG mode now; one that knows no such mode is not."""
        try:
            current, _ = self._nvml.nvmlDeviceGetMigMode(handle)
        except self._nvml.NVMLError:
            return False
        return bool(current == self._nvml.NVML_DEVICE_MIG_ENABLE)

    def _limits_w(self) -> int | None:
        try:
            limits_mw = [
                int(self._nvml.nvmlDeviceGetEnforcedPowerLimit(one))
                for one in self._handles
                if one is not None
            ]
        except self._nvml.NVMLError:
            return None
        return -(-sum(limits_mw) // MW_PER_W)

    def _read_in_time(self) -> list[int | None]:
        try:
            read = self._driver.call(self._read, READ_WITHIN_S)
        except Stuck:
            self._in_time = False
            return list(self._counters)
        self._in_time = True
        return read

    def _read(self) -> list[int | None]:
        counters = list(self._counters)
        for index, handle in enumerate(self._handles):
            try:
                counters[index] = self._energy_uj(handle)
                self._lost.discard(index)
                self.gone.pop(index, None)
            except self._nvml.NVMLError as fault:
                if index not in self._lost:
                    logger.warning("the energy of device %d cannot be read: %s", index, fault)
                self._lost.add(index)
                if fault.value == self._nvml.NVML_ERROR_GPU_IS_LOST:
                    self.gone[index] = LOST
        return counters

    def _energy_uj(self, handle: Any) -> int:
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) * UJ_PER_MJ


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
