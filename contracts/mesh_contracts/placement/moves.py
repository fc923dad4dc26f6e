"""Moves that would make room: shown, so that a person can have them made."""

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from mesh_contracts.ask import Ask
from mesh_contracts.placement.nouns import Residency, Resources
from mesh_contracts.units import Count

MovesMax = Annotated[int, Meta(ge=1, le=32)]


class Move(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One replica (``kind`` endpoint) or one job of one member that would sit elsewhere. Nodes by name."""

    id: str
    kind: Literal["endpoint", "job"]
    from_node: str
    to_node: str
    gpus: list[Count] = []


class Moves(msgspec.Struct, frozen=True, kw_only=True):
    """What to move, in order, so that ``after`` members of a shape fit where ``before`` do now.

    Each has room where it goes while it still has what it had. ``gain_gpu_milli`` is what becomes usable.
    """

    items: list[Move]
    before: Count
    after: Count
    gain_gpu_milli: Count


class PlanMoves(Ask, frozen=True, kw_only=True, tag="placement.moves.plan"):
    """Ask which moves would make room for more members of a shape; none is made."""

    permission: ClassVar[str] = "moves.read"
    reply: ClassVar[object] = Moves

    resources: Resources = msgspec.field(default_factory=Resources)
    residency: Residency = msgspec.field(default_factory=Residency)
    moves_max: MovesMax = 8
