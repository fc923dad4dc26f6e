"""Devices that are not there: labelled so in every record, with faults that a file puts in.

``rehearsal.json`` in the agent's data folder, for example
``{"gemm": {"device": 0, "row": 17, "col": 3, "bit": 5}}``, makes the health check of that device
find that fault, for as long as the file is there; ``{"lease": {"step": "erase"}}`` makes that step of a lease fail.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from mesh_contracts.node import Device, Quality
from mesh_contracts.placement.nouns import MigInstance
from msgspec import Meta

from node_agent.devices.driverless import Driverless
from node_agent.domain.energy import Busy, Drawn, PowerModel, rehearse

SCENARIO = "rehearsal.json"
MEMORY_MIB = 143_771
SCENARIO_BYTES_MAX = 65_536

logger = logging.getLogger(__name__)

_Index = Annotated[int, Meta(ge=0, le=65_535)]


class GemmFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bit flipped in one element of a device's matrix product; ``persistent``: in every round."""

    row: _Index
    col: _Index
    bit: Annotated[int, Meta(ge=0, le=31)]
    device: _Index = 0
    persistent: bool = True


class LeaseFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A step of a lease that the server does not do."""

    step: Literal["hand_over", "take_back", "erase", "attest"]
    detail: str = "the server does not answer"


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes wrong in a rehearsal."""

    gemm: GemmFault | None = None
    lease: LeaseFault | None = None


class ScenarioUnusable(Exception):
    """The scenario file cannot be read; the message names it and says why."""


class Rehearsal(Driverless):
    """``count`` devices of a server that is not there, the first ``mig`` of them in MIG mode."""

    rehearsal = True
    quality: Quality = "estimated"
    source = "rehearsal: a model of idle and full power, driven by the engines' CPU time"

    def __init__(self, node: str, count: int, folder: Path, *, mig: int = 0) -> None:
        super().__init__()
        self._scenario = folder / SCENARIO
        self._model = PowerModel(cpus=os.cpu_count() or 1)
        self._devices = [
            Device(
                device_id=f"rehearsal-{node}-{index}",
                index=index,
                model="rehearsal",
                memory_mib=MEMORY_MIB,
                rehearsal=True,
                mig=index < mig,
            )
            for index in range(count)
        ]
        self._ids = [device.device_id for device in self._devices]
        self.full_power_w: int | None = self._model.most_w(count)

    def listed(self) -> Sequence[Device]:
        """Return the devices, by index."""
        return self._devices

    def probe_arguments(self) -> list[str]:
        """Return what the check is told: the NumPy references, and a fault where the scenario has one.

        Raises ``ScenarioUnusable``.
        """
        fault = self._read().gemm
        if fault is None:
            return ["--backend", "numpy"]
        described = f"device={fault.device},row={fault.row},col={fault.col},bit={fault.bit}"
        return [
            "--backend",
            "numpy",
            "--inject",
            described + (",persistent" if fault.persistent else ""),
        ]

    def instance(self, device_id: str, mig: MigInstance) -> str:
        """Return what a rehearsed instance is called: it is no more there than its GPU."""
        return f"{device_id}.{mig.profile}.{mig.start}"

    def lease_fault(self) -> LeaseFault | None:
        """Return what is to go wrong with leases; a file that cannot be read puts nothing in."""
        try:
            return self._read().lease
        except ScenarioUnusable as fault:
            logger.warning("%s", fault)
            return None

    def draw(self, busy: Busy) -> Drawn | None:
        """Return what such a server would have drawn."""
        return rehearse(self._model, self._ids, busy)

    def _read(self) -> Scenario:
        try:
            with self._scenario.open("rb") as file:
                return msgspec.json.decode(file.read(SCENARIO_BYTES_MAX), type=Scenario)
        except FileNotFoundError:
            return Scenario()
        except (OSError, msgspec.MsgspecError) as fault:
            raise ScenarioUnusable(
                f"{SCENARIO} is unusable: {fault}; correct it or delete it"
            ) from fault
