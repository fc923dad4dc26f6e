"""Energy by counting: what engines used, what that drew, and the counters that never fall.

Integers all the way: a watt over a microsecond is a microjoule.
"""

from collections.abc import Mapping, Sequence

import msgspec

GAP_MAX_US = 120_000_000
"""Counters go on over a pause up to this long; after a longer one they start anew."""


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """An engine's CPU time since its start, the part of it before its first answer, its devices."""

    engine: str
    cpu_us: int
    devices: tuple[str, ...]
    starting_us: int = 0


class Busy(msgspec.Struct, frozen=True, kw_only=True):
    """How long engines computed since the last look: in all, and by device (at most the time passed).

    ``starting_us`` is the part of ``total_us`` that engines took before their first answer.
    """

    elapsed_us: int
    total_us: int
    devices_us: dict[str, int]
    starting_us: int = 0


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """The energy of an interval, and the part of it that would have been drawn idle."""

    energy_uj: int
    idle_uj: int
    devices_uj: dict[str, int]


class Meter(msgspec.Struct, frozen=True, kw_only=True):
    """Cumulative counters since ``epoch`` began; ``at_us`` counts from the start of boot ``boot_id``.

    ``raw_uj`` are the devices' own counters at that moment.
    """

    epoch: int
    boot_id: str
    at_us: int
    counter_uj: int = 0
    idle_uj: int = 0
    starting_uj: int = 0
    devices_uj: dict[str, int] = {}
    cpu_us: dict[str, int] = {}
    raw_uj: dict[str, int] = {}


class PowerModel(msgspec.Struct, frozen=True, kw_only=True):
    """What a rehearsed server draws: a device or the host, idle and with its engines at full load."""

    idle_w: int = 75
    full_w: int = 700
    host_idle_w: int = 150
    host_full_w: int = 350
    cpus: int = 1

    def most_w(self, devices: int) -> int:
        """Return what a server with so many devices draws with all of them at full load."""
        return self.host_full_w + devices * self.full_w


def resume(kept: Meter | None, boot_id: str, at_us: int, uses: Sequence[Use]) -> Meter:
    """Return the meter to go on with: the kept one, or (lost, another boot, a long pause) a new epoch."""
    if kept is not None and kept.boot_id == boot_id and 0 <= at_us - kept.at_us <= GAP_MAX_US:
        return kept
    return Meter(
        epoch=1 if kept is None else kept.epoch + 1,
        boot_id=boot_id,
        at_us=at_us,
        cpu_us={use.engine: use.cpu_us for use in uses},
    )


def busy_since(meter: Meter, at_us: int, uses: Sequence[Use]) -> Busy:
    """Return how long engines computed since the meter's last look.

    An engine that several devices belong to counts on each of them; one seen for the first time
    began after the last look.
    """
    elapsed = max(0, at_us - meter.at_us)
    total = starting = 0
    devices: dict[str, int] = {}
    for use in uses:
        before = meter.cpu_us.get(use.engine, 0)
        spent = max(0, use.cpu_us - before)
        total += spent
        starting += min(spent, max(0, use.starting_us - before))
        for device in use.devices:
            devices[device] = min(elapsed, devices.get(device, 0) + spent)
    return Busy(elapsed_us=elapsed, total_us=total, devices_us=devices, starting_us=starting)


def rehearse(model: PowerModel, devices: Sequence[str], busy: Busy) -> Drawn:
    """Return what a server of ``devices`` would have drawn: idle all along, more while busy."""
    span = busy.elapsed_us
    host_busy = min(busy.total_us, span * model.cpus) // model.cpus
    host_idle = model.host_idle_w * span
    host = host_idle + (model.host_full_w - model.host_idle_w) * host_busy
    idle = model.idle_w * span
    drawn = {
        device: idle + (model.full_w - model.idle_w) * busy.devices_us.get(device, 0)
        for device in devices
    }
    return Drawn(
        energy_uj=host + sum(drawn.values()), idle_uj=host_idle + idle * len(devices), devices_uj=drawn
    )


def add(meter: Meter, drawn: Drawn, at_us: int, uses: Sequence[Use]) -> Meter:
    """Return the meter with an interval added; no counter ever falls within an epoch.

    Of what was drawn above idle, engines that did not answer yet took their share of all engines'
    CPU time: ``starting_uj``.
    """
    assert drawn.energy_uj >= 0
    assert drawn.idle_uj >= 0
    busy = busy_since(meter, at_us, uses)
    idle = min(drawn.idle_uj, drawn.energy_uj)
    starting = (drawn.energy_uj - idle) * busy.starting_us // busy.total_us if busy.total_us else 0
    devices = dict(meter.devices_uj)
    for device, energy_uj in drawn.devices_uj.items():
        assert energy_uj >= 0
        devices[device] = devices.get(device, 0) + energy_uj
    return Meter(
        epoch=meter.epoch,
        boot_id=meter.boot_id,
        at_us=max(meter.at_us, at_us),
        counter_uj=meter.counter_uj + drawn.energy_uj,
        idle_uj=meter.idle_uj + idle,
        starting_uj=meter.starting_uj + starting,
        devices_uj=devices,
        cpu_us={use.engine: use.cpu_us for use in uses},
    )


def watts(energy_uj: int, elapsed_us: int) -> int:
    """Return the mean power of an interval, rounded; 0 for none."""
    return round(energy_uj / elapsed_us) if elapsed_us > 0 else 0


def of_devices(counters: Mapping[str, int], devices: Sequence[str]) -> list[int]:
    """Return the counters of ``devices`` in their order; one never counted is at 0."""
    return [counters.get(device, 0) for device in devices]
