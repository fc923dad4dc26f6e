"""The node's own meter: what it draws now, and counters that outlive the agent."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
from mesh_contracts.node import DeviceEnergy, EnergyMeasured, Power
from mesh_contracts.units import Wide
from meshkit.clock import Clock
from meshkit.telemetry import METRICS

from node_agent.devices import Devices
from node_agent.domain.energy import Meter, Use, add, busy_since, of_devices, resume, watts
from node_agent.runtimes.kept import keep, write_over
from node_agent.runtimes.process import boot_id
from node_agent.telling import Teller

LOOK_EVERY_S = 1.0
EPOCHS_UNTOLD_MAX = 16
FILE = "energy.json"


class NodeMeter:
    """Counts the node's energy from the devices' draw; ``uses`` gives the engines' CPU time."""

    def __init__(
        self, devices: Devices, folder: Path, uses: Callable[[], list[Use]], clock: Clock
    ) -> None:
        self._devices = devices
        self._file = folder / FILE
        self._uses = uses
        self._clock = clock
        self._ids = [device.device_id for device in devices.listed()]
        kept = self._recall()
        self._meter = resume(kept, boot_id(), _now_us(), uses())
        if self._meter is kept:
            # What was drawn while no agent was there is counted with the first look.
            devices.resume(kept.raw_uj)
        self._over: deque[Meter] = deque(maxlen=EPOCHS_UNTOLD_MAX)

    def look(self, node_id: str) -> Power:
        """Count what was drawn since the last look; return it as power."""
        before, at_us, uses = self._meter, _now_us(), self._uses()
        busy = busy_since(before, at_us, uses)
        drawn = self._devices.draw(busy)
        if drawn is None:
            # A counter of the devices fell: what was drawn meanwhile is unknown.
            self._over.append(before)
            self._meter = Meter(epoch=before.epoch + 1, boot_id=before.boot_id, at_us=at_us)
            power_w, devices_w = 0, [0] * len(self._ids)
        else:
            self._meter = add(before, drawn, at_us, uses)
            METRICS.count("mesh_node_energy_joules_total", drawn.energy_uj / 1e6)
            power_w = watts(drawn.energy_uj, busy.elapsed_us)
            devices_w = [watts(drawn.devices_uj[device], busy.elapsed_us) for device in self._ids]
        self._meter = msgspec.structs.replace(self._meter, raw_uj=self._devices.counters())
        self._keep()
        METRICS.set("mesh_node_power_watts", power_w)
        return Power(
            node_id=node_id,
            at=self._clock.now(),
            power_w=power_w,
            quality=self._devices.quality,
            devices_w=devices_w,
        )

    def tell(self, teller: Teller) -> None:
        """Tell the counters as they stand at the last look, and before them those of an epoch that has ended since."""
        while self._over:
            self._tell(self._over.popleft(), teller)
        self._tell(self._meter, teller)

    def _tell(self, meter: Meter, teller: Teller) -> None:
        counters = of_devices(meter.devices_uj, self._ids)
        behind_us = max(0, _now_us() - meter.at_us)
        teller.tell(
            EnergyMeasured,
            epoch=meter.epoch,
            measured_at=self._clock.now() - timedelta(microseconds=behind_us),
            counter_uj=Wide(meter.counter_uj),
            idle_counter_uj=Wide(meter.idle_uj),
            starting_counter_uj=Wide(meter.starting_uj),
            full_power_w=self._devices.full_power_w,
            quality=self._devices.quality,
            source=self._devices.source,
            devices=[
                DeviceEnergy(device_id=device, counter_uj=Wide(counter))
                for device, counter in zip(self._ids, counters, strict=True)
            ],
        )

    async def run(self, teller: Teller, interval_s: float) -> None:
        """Tell the counters at once and after each interval, for ever."""
        while True:
            self.look(teller.node_id)
            self.tell(teller)
            await asyncio.sleep(interval_s)

    def _keep(self) -> None:
        # Where it cannot be kept it is counted on all the same; a restart counts from what was kept last.
        keep(self._file, msgspec.json.encode(self._meter), write_over)

    def _recall(self) -> Meter | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Meter)
        except (OSError, msgspec.MsgspecError):
            return None


def _now_us() -> int:
    # Counts on while the machine sleeps, and means the same to the next process of this boot.
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000
