"""What comes into the engine, and what comes out: both stand in the log, and nothing else decides."""

from typing import Literal

import msgspec

from placement.domain.engine.choose import Rated
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import Level, Size, Terms

Kind = Literal["lease", "job", "endpoint"]


class Near(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How near to each other a workload's members must (or should) be.

    ``level`` is the part of the site that holds all of them where ``required``; ``segment`` is how
    many in a row must share one NVLink domain (1: none must).
    """

    level: Level | Literal[""] = ""
    required: bool = False
    segment: int = 1


class Wish(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One workload to place: ``members`` times ``size``, all or none.

    ``group`` are those it should not share a domain of level ``apart`` with (the replicas of one
    endpoint). ``avoid`` are nodes that will not do, ``dislike`` nodes to take only where no other does,
    ``home`` nodes that hold its weights already. Times are milliseconds.
    """

    workload: str
    organization: str
    project: str
    kind: Kind
    size: Size
    members: int = 1
    terms: Terms = Terms()
    near: Near = Near()
    group: str = ""
    apart: Level | Literal[""] = "node"
    priority: int = 0
    preemptible: bool = False
    min_run_ms: int = 0
    restart_cost: int = 0
    queue: bool = False
    avoid: tuple[str, ...] = ()
    dislike: tuple[str, ...] = ()
    home: tuple[str, ...] = ()


class NodePut(msgspec.Struct, frozen=True, kw_only=True, tag="node.put"):
    """A node is known, or built otherwise."""

    spec: NodeSpec


class NodeTurned(msgspec.Struct, frozen=True, kw_only=True, tag="node.turned"):
    """A node takes new members or does not (``closed``); it is not heard with too many others (``silent``)."""

    node: str
    closed: bool
    silent: bool = False


class Capped(msgspec.Struct, frozen=True, kw_only=True, tag="capped"):
    """A domain may draw so many watts (null: as many as it likes)."""

    level: str
    domain: str
    watts: int | None


class Measured(msgspec.Struct, frozen=True, kw_only=True, tag="measured"):
    """A domain draws so many watts."""

    level: str
    domain: str
    watts: int


class Expected(msgspec.Struct, frozen=True, kw_only=True, tag="expected"):
    """How often each size is asked for; decides what a fragment is."""

    sizes: list[tuple[Size, int]]


class Weighed(msgspec.Struct, frozen=True, kw_only=True, tag="weighed"):
    """A watt more costs as much in a score as so many thousandths of a milli of fragments (0: nothing)."""

    watt: int


class Asked(msgspec.Struct, frozen=True, kw_only=True, tag="asked"):
    """Somebody wishes for a workload."""

    wish: Wish
    at: int


class Released(msgspec.Struct, frozen=True, kw_only=True, tag="released"):
    """A workload holds nothing any more."""

    workload: str
    at: int


class Seat(msgspec.Struct, frozen=True, array_like=True):
    """Where one member sits: its node, its cards by index, the milli it takes of each."""

    node: str
    cards: tuple[int, ...]
    milli_each: int


class Moved(msgspec.Struct, frozen=True, kw_only=True, tag="moved"):
    """One member of a workload, by its number, sits elsewhere."""

    workload: str
    member: int
    to: Seat


class Found(msgspec.Struct, frozen=True, kw_only=True, tag="found"):
    """A workload sits where it sits: that was decided before this memory began."""

    wish: Wish
    seats: tuple[Seat, ...]
    at: int


Input = NodePut | NodeTurned | Capped | Measured | Expected | Weighed | Asked | Released | Moved | Found


class Relaxation(msgspec.Struct, frozen=True, array_like=True):
    """One change that would have admitted a refused wish: of which kind, by how much, of what.

    Kinds, and what ``amount`` and ``names`` are for each, are those of ``relax``.
    """

    kind: str
    amount: int
    names: tuple[str, ...] = ()


class Told(msgspec.Struct, frozen=True, array_like=True):
    """Why: how many nodes failed each constraint first (the last: none), the best and the next best.

    ``relaxation`` is, of a refusal, the smallest that admits it; ``None`` where no single one does.
    """

    failed: tuple[int, ...]
    best: Rated | None = None
    second: Rated | None = None
    relaxation: Relaxation | None = None


class Placed(msgspec.Struct, frozen=True, kw_only=True, tag="placed"):
    """The workload has its seats, one a member."""

    workload: str
    seats: tuple[Seat, ...]
    why: Told


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """It fits nowhere now; nothing has changed."""

    workload: str
    why: Told


class Noted(msgspec.Struct, frozen=True, kw_only=True, tag="noted"):
    """The input is known; it decided nothing."""


Outcome = Placed | Refused | Noted
