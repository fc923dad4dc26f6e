"""What comes into the engine, and what comes out: both stand in the log, and nothing else decides."""

from typing import Literal

import msgspec

from placement.domain.engine.choose import Rated
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import Level, Size, Terms
from placement.domain.engine.spill import Together

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
    ``home`` nodes that hold its weights already. Of an ``elastic`` one, lost members are replaced while the
    others go on. Times are milliseconds.
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
    elastic: bool = False
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


class Asked(msgspec.Struct, frozen=True, kw_only=True, tag="asked", omit_defaults=True):
    """Somebody wishes for a workload.

    Workloads that are named in ``instead_of`` make way for it: they hold nothing any more if it has its seats
    then, and stay where they are if it has not.
    """

    wish: Wish
    at: int
    instead_of: tuple[str, ...] = ()


class Released(msgspec.Struct, frozen=True, kw_only=True, tag="released"):
    """A workload holds nothing any more."""

    workload: str
    at: int


class NodesLost(msgspec.Struct, frozen=True, kw_only=True, tag="nodes.lost"):
    """Nodes are lost, with the members on them: they take nobody, and who sat there is to sit elsewhere."""

    nodes: tuple[str, ...]
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


Known = NodePut | NodeTurned | Capped | Measured | Expected | Weighed
"""What is told and decides nothing by itself."""
Input = Known | Asked | Released | Moved | Found | NodesLost


class Relaxation(msgspec.Struct, frozen=True, array_like=True):
    """One change that would have admitted a refused wish: of which kind, by how much, of what.

    Kinds, and what ``amount`` and ``names`` are for each, are those of ``relax``.
    """

    kind: str
    amount: int
    names: tuple[str, ...] = ()


class Told(msgspec.Struct, frozen=True, array_like=True):
    """Why: how many nodes failed each constraint first (the last: none), the best and the next best.

    ``relaxation`` is, of a refusal, the smallest that admits it; ``None`` where no single one does. Of
    several members at once all this is for one of them, node by node; ``together`` is what they needed beyond.
    """

    failed: tuple[int, ...]
    best: Rated | None = None
    second: Rated | None = None
    relaxation: Relaxation | None = None
    together: Together | None = None


class Placed(msgspec.Struct, frozen=True, kw_only=True, tag="placed"):
    """The workload has its seats, one a member."""

    workload: str
    seats: tuple[Seat, ...]
    why: Told


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """It fits nowhere now; nothing has changed."""

    workload: str
    why: Told


class Reseated(msgspec.Struct, frozen=True, kw_only=True, tag="reseated"):
    """A workload that lost members has all its seats again.

    ``members`` are those with new ones: the lost, or all of them, where it starts anew.
    """

    workload: str
    seats: tuple[Seat, ...]
    members: tuple[int, ...]
    why: Told


class Stranded(msgspec.Struct, frozen=True, kw_only=True, tag="stranded"):
    """A workload that lost members fits nowhere else. ``released``: it holds nothing any more.

    A job is released, whole, and can be asked for again; of leases and endpoints those members that are left
    stay where they are, and the lost ones hold their seats until their nodes return or the workload ends.
    """

    workload: str
    released: bool
    why: Told


class Replaced(msgspec.Struct, frozen=True, kw_only=True, tag="replaced"):
    """What became of all who were on the nodes that are lost, in the order in which it was decided."""

    outcomes: tuple[Reseated | Stranded, ...]


class Noted(msgspec.Struct, frozen=True, kw_only=True, tag="noted"):
    """The input is known; it decided nothing."""


Outcome = Placed | Refused | Replaced | Noted
