"""From cumulative counters to the energy of an interval."""

from datetime import datetime

import msgspec
from mesh_contracts.node import EnergyMeasured, Quality


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A node's meter as it was last read."""

    epoch: int
    measured_at: datetime
    counter_uj: int
    idle_counter_uj: int
    quality: Quality
    starting_counter_uj: int | None = None


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A node's energy between two readings; ``idle_uj`` is the part it would have taken idle.

    ``starting_uj`` went into engines that did not answer yet; ``full_power_w`` is the most the node
    could draw, where that is known.
    """

    cause_id: str
    node_id: str
    site: str
    start_at: datetime
    end_at: datetime
    energy_uj: int
    idle_uj: int
    quality: Quality
    source: str
    traceparent: str | None = None
    starting_uj: int = 0
    full_power_w: int | None = None


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """The reading from which a settlement follows."""

    fact_id: str
    occurred_at: datetime
    site: str
    traceparent: str | None


def cause_of(interval: Interval) -> Cause:
    """Return what a settlement of ``interval`` follows from."""
    return Cause(
        fact_id=interval.cause_id,
        occurred_at=interval.end_at,
        site=interval.site,
        traceparent=interval.traceparent,
    )


def is_newer(last: Reading | None, fact: EnergyMeasured) -> bool:
    """Tell whether a reading is later than the last; an older one changes nothing.

    A new epoch is later whatever its clock says: the last one's may have run ahead by years.
    """
    return last is None or fact.epoch > last.epoch or fact.measured_at > last.measured_at


def between(last: Reading | None, fact: EnergyMeasured) -> Interval | None:
    """Return the interval between two readings of one epoch, or nothing.

    Across epochs, or where a counter stepped back, the energy in between is not known: it is left
    out, never guessed and never counted as zero of somebody's.
    """
    if last is None or fact.epoch != last.epoch or not is_newer(last, fact):
        return None
    energy = fact.counter_uj - last.counter_uj
    if energy < 0:
        return None
    idle = min(max(fact.idle_counter_uj - last.idle_counter_uj, 0), energy)
    return Interval(
        cause_id=fact.fact_id,
        node_id=fact.node_id,
        site=fact.site,
        start_at=last.measured_at,
        end_at=fact.measured_at,
        energy_uj=energy,
        idle_uj=idle,
        quality="measured" if fact.quality == last.quality == "measured" else "estimated",
        source=fact.source,
        traceparent=fact.traceparent,
        starting_uj=min(_risen(last.starting_counter_uj, fact.starting_counter_uj), energy - idle),
        full_power_w=fact.full_power_w,
    )


def reading_of(fact: EnergyMeasured) -> Reading:
    """Return what is kept of a reading."""
    return Reading(
        epoch=fact.epoch,
        measured_at=fact.measured_at,
        counter_uj=int(fact.counter_uj),
        idle_counter_uj=int(fact.idle_counter_uj),
        quality=fact.quality,
        starting_counter_uj=None if fact.starting_counter_uj is None else int(fact.starting_counter_uj),
    )


def _risen(last: int | None, now: int | None) -> int:
    return 0 if last is None or now is None else max(now - last, 0)
