"""The accelerators of this server: real ones through NVML, those of a server beside, or rehearsals that say so everywhere."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from mesh_contracts.node import Device, Quality
from mesh_contracts.placement.nouns import MigInstance
from meshkit.errors import ConfigError

from node_agent.domain.energy import Busy, Drawn
from node_agent.domain.xid import Xid
from node_agent.settings import AgentSettings


class Devices(Protocol):
    """What the agent needs of its accelerators."""

    rehearsal: bool
    quality: Quality
    source: str
    """Where energy figures come from, in words."""
    full_power_w: int | None
    """The most that all that ``draw`` counts can draw together, where that is known."""

    @property
    def gone(self) -> Mapping[int, str]:
        """By index the devices that their driver has lost, each with what is known of that."""
        ...

    @property
    def stuck_s(self) -> float:
        """For how long a call to their driver has not come back."""
        ...

    def watch(self, told: Callable[[Xid], None]) -> Callable[[], None]:
        """Have ``told`` called with each error that they tell, perhaps from another thread; return what ends that."""
        ...

    def recovery(self, index: int) -> int | None:
        """Return what a device itself says is to be done to mend it; ``None`` where it does not. May block."""
        ...

    def buses(self) -> list[str]:
        """Return their PCI addresses, by index, with nothing in place of one that is not told; empty where there are none."""
        ...

    def listed(self) -> Sequence[Device]:
        """Return the devices, by index; the same as long as the agent runs."""
        ...

    def probe_arguments(self) -> list[str]:
        """Return what the health check of these devices is told. Raises ``ScenarioUnusable``."""
        ...

    def instance(self, device_id: str, mig: MigInstance) -> str:
        """Return what the driver calls an instance of a device.

        Raises ``NoInstance`` where there is none, and none can be made.
        """
        ...

    def draw(self, busy: Busy) -> Drawn | None:
        """Return the energy since the last call; nothing where a counter was reset meanwhile."""
        ...

    def counters(self) -> dict[str, int]:
        """Return their own energy counters as they were read last, by id, in microjoules; empty where there are none."""
        ...

    def resume(self, counters: Mapping[str, int]) -> None:
        """Have the next ``draw`` count from these counters on."""
        ...


class NoInstance(Exception):
    """A MIG instance that was wished for cannot be had here; the message says why, and what to do."""


def open_devices(settings: AgentSettings) -> Devices:
    """Return the devices that ``AGENT_DEVICES`` names. Raises ``ConfigError`` where there are none."""
    if settings.agent_devices == "rehearsal":
        from node_agent.devices.rehearsal import Rehearsal  # noqa: PLC0415 - one of three

        count, mig = settings.agent_rehearsal_gpus, settings.agent_rehearsal_mig
        return Rehearsal(settings.agent_name, count, settings.agent_data_dir, mig=mig)
    if settings.agent_devices == "declared":
        from node_agent.devices.declared import Declared  # noqa: PLC0415 - one of three

        if settings.agent_devices_file is None or settings.agent_bmc_url is None:
            raise ConfigError(
                "AGENT_DEVICES=declared: set AGENT_DEVICES_FILE, which names them, and AGENT_BMC_URL, behind which they are"
            )
        watts = {"idle_w": settings.agent_idle_w, "gpu_w": settings.agent_gpu_w}
        return Declared(settings.agent_devices_file, settings.agent_data_dir, **watts)
    try:
        from node_agent.devices.nvml import Nvml, NvmlAbsent  # noqa: PLC0415 - one of three
    except ImportError as fault:
        raise ConfigError(
            f"nvidia-ml-py cannot be imported: {fault}; install mesh-node-agent"
        ) from fault
    try:
        return Nvml(settings.agent_data_dir)
    except NvmlAbsent as fault:
        raise ConfigError(str(fault)) from fault
