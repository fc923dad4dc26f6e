"""Accelerators of a server that the agent runs beside: a file says which they are, and an erase image how they are.

What the image found is known until the server is handed over or erased again: after that nobody has looked.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from mesh_contracts.node import Check, Device, Quality
from mesh_contracts.placement.nouns import MigInstance
from mesh_contracts.units import DeviceId
from meshkit.errors import ConfigError
from msgspec import Meta

from node_agent.devices import NoInstance
from node_agent.devices.driverless import Driverless
from node_agent.domain.energy import Busy, Drawn
from node_agent.domain.proof import Accelerator, examined
from node_agent.domain.verdicts import of_device
from node_agent.runtimes.kept import keep

FILE = "examined.json"
LOOKING_FILE = "being-examined"
LOOKING = "its erase image is on its way to look at it"
WAIT = "wait until it has looked"
DEVICES_MAX = 64
EXAMPLE = '[{"device_id": "GPU-5a0e…", "model": "NVIDIA H200", "memory_mib": 143771}]'
BESIDE = "the agent runs beside this server, and runs nothing on it: it is leased whole"

logger = logging.getLogger(__name__)


class _Said(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    device_id: DeviceId
    model: Annotated[str, Meta(min_length=1, max_length=128)]
    memory_mib: Annotated[int, Meta(ge=1)]


class Declared(Driverless):
    """The accelerators that a file names, by its order. Raises ``ConfigError``.

    ``idle_w`` and ``gpu_w`` are what the server draws idle, and each of them more: all of that is counted for as
    long as a tenant has it (``leased``) or an erase image runs, as nobody here sees what it draws, and nothing
    otherwise: it is off then.
    """

    rehearsal = False
    quality: Quality = "estimated"
    source = "declared: AGENT_IDLE_W, and AGENT_GPU_W of each accelerator, while a tenant or an erase image has the server"

    def __init__(self, file: Path, folder: Path, *, idle_w: int = 0, gpu_w: int = 0) -> None:
        super().__init__()
        self._devices = _devices(file)
        self._file, self._looking = folder / FILE, folder / LOOKING_FILE
        self._idle_w, self._gpu_w = idle_w, gpu_w
        self.leased: Callable[[], bool] = lambda: False
        self.full_power_w: int | None = idle_w + gpu_w * len(self._devices) or None

    def listed(self) -> Sequence[Device]:
        """Return the devices, by index."""
        return self._devices

    def known(self) -> list[Check]:
        """Return what the erase image found of each; where nobody has looked since, that is inconclusive.

        While it looks that is a warning: a restart of the agent amid that says nothing against them.
        """
        if self.looking:
            return [of_device("device", one, "warn", LOOKING, WAIT) for one in self._devices]
        return examined(self._devices, self._recall())

    def remember(self, found: Sequence[Accelerator]) -> None:
        """Keep what an erase image found; where that cannot be kept nobody has looked."""
        keep(self._file, msgspec.json.encode(found))
        self._looking.unlink(missing_ok=True)

    @property
    def looking(self) -> bool:
        """Whether an erase image is on its way, or was when the agent ended."""
        return self._looking.exists()

    def look(self) -> None:
        """Note that an erase image is about to look at them. Raises ``OSError``."""
        self._looking.touch()
        self._file.unlink(missing_ok=True)

    def forget(self) -> None:
        """Know nothing of them any more: somebody has the server, or is about to begin with it. Raises ``OSError``."""
        self._looking.unlink(missing_ok=True)
        self._file.unlink(missing_ok=True)

    def probe_arguments(self) -> list[str]:
        """Return nothing: no check of them runs here."""
        return []

    def instance(self, device_id: str, mig: MigInstance) -> str:
        """Raise ``NoInstance``: nothing runs here."""
        del mig
        raise NoInstance(f"{device_id}: {BESIDE}")

    def draw(self, busy: Busy) -> Drawn:
        """Return what such a server drew at most since the last call, if it was on."""
        on = self.leased() or self.looking
        each, idle = (watts * busy.elapsed_us if on else 0 for watts in (self._gpu_w, self._idle_w))
        devices = {one.device_id: each for one in self._devices}
        return Drawn(energy_uj=idle + sum(devices.values()), idle_uj=idle, devices_uj=devices)

    def _recall(self) -> list[Accelerator] | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=list[Accelerator])
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as fault:
            logger.warning("%s says nothing of the accelerators: %s", self._file, fault)
            return None


def _devices(file: Path) -> list[Device]:
    try:
        said = msgspec.json.decode(file.read_bytes(), type=list[_Said])
    except OSError as fault:
        raise ConfigError(f"AGENT_DEVICES_FILE {file}: {fault.strerror}") from fault
    except msgspec.MsgspecError as fault:
        raise ConfigError(f"AGENT_DEVICES_FILE {file}: {fault}; write {EXAMPLE}") from fault
    ids = [one.device_id for one in said]
    if not 0 < len(ids) <= DEVICES_MAX or len(set(ids)) < len(ids):
        raise ConfigError(
            f"AGENT_DEVICES_FILE {file}: name 1 to {DEVICES_MAX} accelerators, each once by its UUID"
        )
    return [
        Device(index=index, rehearsal=False, **msgspec.structs.asdict(one))
        for index, one in enumerate(said)
    ]
