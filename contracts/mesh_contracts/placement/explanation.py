"""Where something would go, and why; what a change of the site would do to what runs there."""

from typing import Literal

import msgspec

from mesh_contracts.placement.nouns import MigInstance, Reason
from mesh_contracts.placement.shapes import PowerDomain
from mesh_contracts.units import Count, Name


class Seat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where one member would sit: the node, and which of its GPUs by index, so much of each.

    ``mig`` is the instance of the one GPU that it would have.
    """

    node: Name
    gpus: list[Count] = []
    gpu_milli_each: Count = 0
    mig: MigInstance | None = None


class Scored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How good a node is for the last member, and which terms add up to it.

    ``score`` = ``gain`` (fragmentation taken away) - ``left`` (what stays free there) - ``power``
    (watts added) - ``bias`` (spreading, locality). Numbers of one answer compare with each other alone.
    """

    node: Name
    score: int
    gain: int
    left: int
    power: int
    bias: int


class Displaced(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a change takes its place from, and whether there would be another for it."""

    id: str
    kind: Literal["lease", "job", "endpoint"]
    fits: bool
    nodes: list[Name] = []


class Breach(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the site that would draw ``over_w`` more than its cap with all work there ended."""

    level: PowerDomain
    domain: Name
    over_w: Count


class Explanation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a replica would go, and what each constraint left over, in order.

    Of several members ``survivors`` speak of the last that was tried; there are ``seats`` for all
    or none. ``best`` and ``second`` are the last member's node and the next best. ``displaced``, ``ends``
    (what would end so that caps hold) and ``breaches`` are what the supposed changes would do.
    """

    fits: bool
    survivors: list[Reason]
    node: Name | None = None
    reasons: list[Reason] = []
    seats: list[Seat] = []
    best: Scored | None = None
    second: Scored | None = None
    displaced: list[Displaced] = []
    ends: list[str] = []
    breaches: list[Breach] = []
