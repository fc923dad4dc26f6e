"""Real devices through NVML: who they are, and their own energy counters. Thin so far:
no errors, no clocks, no links; the node's energy is that of its devices alone.
"""  # noqa: D205

import logging
from collections.abc import Sequence
from typing import Any

import pynvml
from mesh_contracts.node import Device, Quality
from mesh_contracts.placement.nouns import MigInstance

from node_agent.devices import NoInstance
from node_agent.devices.instances import instance_of
from node_agent.domain.energy import Busy, Drawn

MIB = 1024**2
UJ_PER_MJ = 1_000
MW_PER_W = 1_000
FLOOR_SPAN_US = 500_000
"""Between two looks that follow each other closer than this a counter may simply not have moved."""

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
        try:
            nvml.nvmlInit()
            count = int(nvml.nvmlDeviceGetCount())
        except nvml.NVMLError as fault:
            raise NvmlAbsent(
                f"NVML does not answer ({fault}); install the NVIDIA driver, or set AGENT_DEVICES=rehearsal"
            ) from fault
        try:
            self._handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
            self._devices = [self._described(*one) for one in enumerate(self._handles)]
            self._counters = [self._energy_uj(handle) for handle in self._handles]
        except nvml.NVMLError as fault:
            raise NvmlAbsent(
                f"a device cannot be read through NVML ({fault}); see nvidia-smi, and whether it has an energy counter"
            ) from fault
        self._lost: set[int] = set()
        self._floor_w = [float("inf")] * count
        self.full_power_w = self._limits_w()

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
        return instance_of(self._nvml, self._handles[index], mig)

    def draw(self, busy: Busy) -> Drawn | None:
        """Return what the devices' counters rose by; nothing where one fell (the driver was reloaded).

        Idle power is taken as the lowest seen so far. What a device draws that cannot be read is
        counted once it can be again.
        """
        before, self._counters = self._counters, self._read()
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
        except self._nvml.NVMLError_NotSupported:
            return False
        return bool(current == self._nvml.NVML_DEVICE_MIG_ENABLE)

    def _limits_w(self) -> int | None:
        try:
            limits_mw = [int(self._nvml.nvmlDeviceGetEnforcedPowerLimit(one)) for one in self._handles]
        except self._nvml.NVMLError:
            return None
        return -(-sum(limits_mw) // MW_PER_W)

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
