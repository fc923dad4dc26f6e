"""What comes into the engine, and what comes out: both stand in the log, and nothing else decides."""

from typing import Literal

import msgspec

from placement.domain.engine.notice import (
    Booked,
    Cancelled,
    CarbonForeseen,
    Curbed,
    Due,
    Maintained,
    NotBooked,
    Preempted,
    Queued,
    QuotaSet,
    Relaxation,
    Reseated,
    Seat,
    Short,
    Stranded,
    Ticked,
    Told,
)
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import Level, Size, Terms

__all__ = [
    "Advanced",
    "Asked",
    "Booked",
    "Cancelled",
    "Capped",
    "CarbonForeseen",
    "Curbed",
    "Due",
    "Expected",
    "Followed",
    "Found",
    "Input",
    "Kind",
    "Known",
    "Maintained",
    "Measured",
    "Moved",
    "Near",
    "NodePut",
    "NodeTurned",
    "NodesLost",
    "NotBooked",
    "Noted",
    "Outcome",
    "Placed",
    "Preempted",
    "Queued",
    "QuotaSet",
    "Refused",
    "Relaxation",
    "Released",
    "Reseated",
    "Reserved",
    "Seat",
    "SeatsLost",
    "Short",
    "Stranded",
    "Ticked",
    "Told",
    "Weighed",
    "Wish",
]

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
    endpoint). ``only`` is the one node that will do, in nobody's stead; ``avoid`` are nodes that will not, ``dislike``
    nodes to take only where no other does, ``home`` nodes that hold its weights already. Of an ``elastic`` one, lost members are replaced while the
    others go on. It runs at most ``run_ms`` (0: nobody knows) and, where it names a ``reservation``, on that
    one's nodes only. With ``queue`` it waits where it does not fit now; an endpoint never does. One that waits may
    begin up to ``slack_ms`` later where the grid emits less then. Times are milliseconds.
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
    run_ms: int = 0
    slack_ms: int = 0
    reservation: str = ""
    only: str = ""
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


class Capped(msgspec.Struct, frozen=True, kw_only=True, tag="capped", omit_defaults=True):
    """A domain may draw so many watts (null: as many as it likes).

    With ``sheds`` jobs and replicas end so that it holds, the least valuable first.
    """

    level: str
    domain: str
    watts: int | None
    sheds: bool = False


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


class Reserved(msgspec.Struct, frozen=True, kw_only=True, tag="reserved"):
    """A project wishes for whole nodes from ``start`` to ``end``.

    Either those it names, by node or NVLink domain, or as many as ``members`` times ``size`` need.
    """

    reservation: str
    organization: str
    project: str
    start: int
    end: int
    nodes: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    size: Size | None = None
    members: int = 1
    near: Near = Near()
    terms: Terms = Terms()
    at: int


class Released(msgspec.Struct, frozen=True, kw_only=True, tag="released"):
    """A workload holds nothing any more."""

    workload: str
    at: int


class NodesLost(msgspec.Struct, frozen=True, kw_only=True, tag="nodes.lost"):
    """Nodes are lost, with the members on them: they take nobody, and who sat there is to sit elsewhere."""

    nodes: tuple[str, ...]
    at: int


class SeatsLost(msgspec.Struct, frozen=True, kw_only=True, tag="seats.lost"):
    """Some members of an elastic workload are lost, by their numbers: they alone are to sit elsewhere.

    Where they cannot, the workload goes on whole or not at all: a job gives up all its seats, and waits.
    """

    workload: str
    members: tuple[int, ...]
    at: int


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
"""What is told of the site itself."""
Input = (
    Known
    | NodesLost
    | SeatsLost
    | Asked
    | Released
    | Moved
    | Found
    | QuotaSet
    | Reserved
    | Maintained
    | Cancelled
    | CarbonForeseen
    | Ticked
)


class Placed(msgspec.Struct, frozen=True, kw_only=True, tag="placed", omit_defaults=True):
    """The workload has its seats, one a member.

    ``borrowed``: it gives way to whoever is guaranteed them. ``preempted`` gave way to it. ``until`` is
    when it is to stop, where that is known.
    """

    workload: str
    seats: tuple[Seat, ...]
    why: Told
    borrowed: bool = False
    preempted: tuple[str, ...] = ()
    until: int | None = None


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused", omit_defaults=True):
    """It may not be, or fits nowhere now; nothing has changed. ``short``: what its quota lacks."""

    workload: str
    why: Told
    short: Short | None = None


class Noted(msgspec.Struct, frozen=True, kw_only=True, tag="noted"):
    """The input is known; it decided nothing."""


Followed = Placed | Preempted | Queued | Due | Curbed | Booked | NotBooked | Reseated | Stranded


class Advanced(msgspec.Struct, frozen=True, kw_only=True, tag="advanced"):
    """What followed: who gave way, started, sits elsewhere, has other prospects, is to stop; in order."""

    outcomes: tuple[Followed, ...]


Outcome = Placed | Refused | Queued | Booked | NotBooked | Advanced | Noted
