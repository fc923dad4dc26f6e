"""Moves that would make room: shown first, and made when a person asks for them."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from mesh_contracts.ask import Ask
from mesh_contracts.placement.nouns import Reason, Residency, Resources
from mesh_contracts.units import Count, Text, Time

MOVES_MAX = 32
MovesMax = Annotated[int, Meta(ge=1, le=MOVES_MAX)]
MovesIsolation = Literal["none", "node"]


class Move(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One replica that would sit elsewhere. Nodes by name."""

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
    """Ask which moves would make room for more members of a shape; none is made.

    With the isolation ``node`` each needs a node that nobody else is on, as a lease does.
    """

    permission: ClassVar[str] = "moves.read"
    reply: ClassVar[Any] = Moves

    resources: Resources = msgspec.field(default_factory=Resources)
    residency: Residency = msgspec.field(default_factory=Residency)
    isolation: MovesIsolation = "none"
    moves_max: MovesMax = 8


class MoveTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which replica, by its id, is to sit on which node, by its name or id."""

    id: Text
    to_node: Text


MovesToMake = Annotated[list[MoveTo], Meta(min_length=1, max_length=MOVES_MAX)]


class Moving(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A replica on its way: it serves until its ``successor`` answers.

    ``waiting``: there is no room yet where it goes; at ``until`` it is given up, and stays where it is.
    """

    id: str
    endpoint: str
    from_node: str
    to_node: str
    state: Literal["waiting", "starting"]
    until: Time
    successor: str | None = None
    reasons: list[Reason] = []


class Movings(msgspec.Struct, frozen=True, kw_only=True):
    """The moves of a site that are not over, in the order in which they were asked for."""

    items: list[Moving]


class MakeMoves(Ask, frozen=True, kw_only=True, tag="placement.moves.make"):
    """Wish that replicas sit elsewhere: all of them are accepted, or none.

    A successor begins on the node that was named, takes the work over once it answers, and only then
    the replica ends. Nobody is preempted for it, and no quota is exceeded meanwhile.
    """

    permission: ClassVar[str] = "moves.write"
    reply: ClassVar[Any] = Movings
    changes: ClassVar[bool] = True

    moves: MovesToMake


class ListMoves(Ask, frozen=True, kw_only=True, tag="placement.moves.list"):
    """Ask for the moves that are not over."""

    permission: ClassVar[str] = "moves.read"
    reply: ClassVar[Any] = Movings
