"""The quarantine breaker: how many nodes health checks may take out before a person looks."""

from typing import ClassVar

import msgspec

from mesh_contracts.ask import Ask
from mesh_contracts.fact import Fact
from mesh_contracts.units import Count, Text, Time


class Breaker(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What health checks took out in the last ``window_s`` seconds, and how many nodes they may (``most``).

    ``tripped_at``: since when they take out none; a person re-arms it. ``held`` are nodes that have failed a
    check since, and stay as they are.
    """

    cordoned: Count
    most: Count
    window_s: Count
    tripped_at: Time | None = None
    held: list[str] = []


class RearmBreaker(Ask, frozen=True, kw_only=True, tag="placement.breaker.rearm"):
    """Wish that failed checks take nodes out again; those that failed one meanwhile are checked anew."""

    permission: ClassVar[str] = "breaker.write"
    reply: ClassVar[object] = Breaker
    changes: ClassVar[bool] = True

    reason: Text


class BreakerTripped(Fact, frozen=True, kw_only=True, tag="placement.breaker.tripped/1"):
    """So many nodes failed their checks that no more are taken out until a person looks. The key is the site."""

    cordoned: Count
    most: Count
    window_s: Count
    gpu_nodes: Count


class BreakerRearmed(Fact, frozen=True, kw_only=True, tag="placement.breaker.rearmed/1"):
    """A person has looked, and why failed checks take nodes out again. The key is the site."""

    principal_id: str
    reason: Text
    held: Count
