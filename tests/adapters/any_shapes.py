"""Whatever somebody may ask for: how much, where, how near to each other, when."""

from datetime import datetime, timedelta
from random import Random

from mesh_contracts.placement import Near, Residency, Resources


def resources(chance: Random) -> Resources:
    """Return what one member or replica takes."""
    cards = [
        {"gpus": 1},
        {"gpus": 1},
        {"gpus": 2},
        {"gpus": 4},
        {"gpu_milli": 250},
        {"gpu_milli": 600},
        {},
    ]
    memory_mib, cpu_milli = chance.choice([1, 16, 300]), chance.choice([0, 0, 50, 400])
    return Resources(**chance.choice(cards), memory_mib=memory_mib, cpu_milli=cpu_milli)


def residency(chance: Random) -> Residency:
    """Return in which countries it may be: in none of the site's, now and then."""
    places = chance.choice([["FR"], ["FR"], ["DE"], ["FR", "DE"], ["FR", "DE"], ["IT"]])
    return Residency(jurisdictions=places)


def anywhere() -> Residency:
    """Return all countries of the site."""
    return Residency(jurisdictions=["FR", "DE"])


def near(chance: Random) -> Near:
    """Return how near members must be, or should."""
    level = chance.choice([None, None, None, None, "rack", "nvlink", "pdu"])
    return Near(level=level, required=chance.choice([True, False]))


def moment(now: datetime, after_s: float | None) -> datetime | None:
    """Return the moment so many seconds from now; none for none."""
    return None if after_s is None else now + timedelta(seconds=after_s)
