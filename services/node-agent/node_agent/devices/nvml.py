"""Real devices through NVML: who they are, their own energy counters, the errors that they tell.

The node's energy is that of its devices alone. Each call is made from a thread of its own: a driver that hangs
does not stop the agent.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pynvml
from mesh_contracts.node import Device, Quality
from mesh_contracts.placement.nouns import MigInstance

from node_agent.devices import NoInstance
from node_agent.devices.driver import DriverThread, Stuck
from node_agent.devices.events import XidEvents
from node_agent.devices.instances import instance_of
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

    def __init__(self) -> None:
        nvml: Any = pynvml
        self._nvml = nvml
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

    def _begin(self) -> int:
        self._nvml.nvmlInit()
        return int(self._nvml.nvmlDeviceGetCount())

    def _know(self, count: int) -> None:
        self._handles = [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        self._devices = [self._described(*one) for one in enumerate(self._handles)]
        self._counters = [self._energy_uj(handle) for handle in self._handles]
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
        """Return the devices' PCI addresses, by index; empty where one is not told."""
        try:
            return self._driver.call(
                lambda: [_text(self._nvml.nvmlDeviceGetPciInfo(one).busId) for one in self._handles],
                START_WITHIN_S,
            )
        except (self._nvml.NVMLError, Stuck):
            return []

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
        before, self._counters = self._counters, self._read_in_time()
        risen = [now - then for now, then in zip(self._counters, before, strict=True)]
        if any(energy < 0 for energy in risen):
            return None
        for index, energy in enumerate(risen):
            if busy.elapsed_us >= FLOOR_SPAN_US and index not in self._lost:
                self._floor_w[index] = min(self._floor_w[index], energy / busy.elapsed_us)
        idle = sum(floor for floor in self._floor_w if floor != float("inf"))
        ids = [device.device_id for device in self._devices]
        return Drawn(
            energy_uj=sum(risen),
            idle_uj=min(sum(risen), round(idle * busy.elapsed_us)),
            devices_uj=dict(zip(ids, risen, strict=True)),
        )

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
            limits_mw = [int(self._nvml.nvmlDeviceGetEnforcedPowerLimit(one)) for one in self._handles]
        except self._nvml.NVMLError:
            return None
        return -(-sum(limits_mw) // MW_PER_W)

    def _read_in_time(self) -> list[int]:
        try:
            return self._driver.call(self._read, READ_WITHIN_S)
        except Stuck:
            return list(self._counters)

    def _read(self) -> list[int]:
        counters = list(self._counters)
        for index, handle in enumerate(self._handles):
            try:
                counters[index] = self._energy_uj(handle)
                self._lost.discard(index)
            except self._nvml.NVMLError as fault:
                if index not in self._lost:
                    logger.warning("the energy of device %d cannot be read: %s", index, fault)
                self._lost.add(index)
        return counters

    def _energy_uj(self, handle: Any) -> int:
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) * UJ_PER_MJ


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
