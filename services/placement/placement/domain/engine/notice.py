"""What comes in about quota, time and the calendar, and what is told of seats and of waiting for them."""

from typing import Literal

import msgspec

from placement.domain.engine.choose import Rated
from placement.domain.engine.spill import Together


class QuotaSet(msgspec.Struct, frozen=True, kw_only=True, tag="quota.set"):
    """An organisation's quota or (with ``project``) a project's; nothing guaranteed and no limit is none.

    ``gpu_milli`` and ``domains`` (whole NVLink domains by the GPU model in them, whose GPUs count among
    ``gpu_milli``) are guaranteed. ``limit_milli`` bounds what it holds in all, ``weight`` is its part of what
    nobody guaranteed uses; 0: it borrows nothing.
    """

    organization: str
    project: str = ""
    gpu_milli: int = 0
    domains: dict[str, int] = {}
    limit_milli: int | None = None
    weight: int = 1
    at: int


class Maintained(msgspec.Struct, frozen=True, kw_only=True, tag="maintained"):
    """Nodes and NVLink domains are worked on from ``start`` to ``end`` (null: until it is cancelled)."""

    window: str
    start: int
    end: int | None
    nodes: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    at: int


class Cancelled(msgspec.Struct, frozen=True, kw_only=True, tag="cancelled"):
    """Nobody wants any more what this names: a workload that waits, a reservation, a maintenance window."""

    name: str
    at: int


class CarbonForeseen(msgspec.Struct, frozen=True, kw_only=True, tag="carbon.foreseen"):
    """What a kWh from the grid is expected to emit, in mg, from ``start`` on: one value a ``step`` of milliseconds."""

    start: int
    step: int
    mg_per_kwh: tuple[int, ...]
    at: int


class Ticked(msgspec.Struct, frozen=True, kw_only=True, tag="ticked"):
    """Time has passed."""

    at: int


class Seat(msgspec.Struct, frozen=True, array_like=True):
    """Where one member sits: its node, its cards by index, the milli it takes of each.

    Of an instance ``slices`` are the memory slices of its one card, as bits.
    """

    node: str
    cards: tuple[int, ...]
    milli_each: int
    slices: int = 0


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


class Short(msgspec.Struct, frozen=True, kw_only=True):
    """What a quota or the calendar lacks: ``have`` of what is wanted, and who holds most of the rest.

    In milli of GPU; for ``domains`` in NVLink domains, for ``nodes`` in nodes, for ``time`` in milliseconds.
    ``promised``: it would fit, but then others who wait would not start when they were told. ``carbon``: it may
    begin later, and is to from ``at`` on, as the grid emits ``want`` mg a kWh then and ``have`` now.
    ``ever``: whether it can come to be without anybody changing a quota.
    """

    code: Literal[
        "guarantee",
        "limit",
        "weight",
        "domains",
        "queue",
        "promised",
        "reservation",
        "nodes",
        "time",
        "capacity",
        "carbon",
    ]
    name: str
    have: int
    want: int
    ever: bool = True
    holders: tuple[tuple[str, int], ...] = ()
    at: int | None = None


class Queued(msgspec.Struct, frozen=True, kw_only=True, tag="queued", omit_defaults=True):
    """It waits. ``position`` 1 is tried first (null: further behind than is counted).

    It starts at ``start`` at the latest, unless what has precedence comes or nodes go; null where nobody
    knows. ``short``: what its quota lacks; without it, it is room, and ``why`` says of what, when it is asked for.
    """

    workload: str
    position: int | None
    start: int | None
    short: Short | None = None
    why: Told | None = None


class Preempted(msgspec.Struct, frozen=True, kw_only=True, tag="preempted"):
    """It has given its seats to ``by``, a workload or a reservation; ``queued``: it waits to have others."""

    workload: str
    by: str
    queued: bool


class Curbed(msgspec.Struct, frozen=True, kw_only=True, tag="curbed"):
    """A replica is to stop, as ``by``, a power cap, leaves no watts for it; its seat is its own until it has."""

    workload: str
    by: str


class Due(msgspec.Struct, frozen=True, kw_only=True, tag="due"):
    """Its time is over: it is to stop."""

    workload: str


class Booked(msgspec.Struct, frozen=True, kw_only=True, tag="booked"):
    """These nodes are kept from its start on.

    ``remain`` are workloads that are there now and not known to have ended by then: those that can be
    preempted make way for a reservation at its start, where it ``clears`` its nodes; for maintenance somebody has to
    move them.
    """

    name: str
    nodes: tuple[str, ...]
    remain: tuple[str, ...] = ()
    clears: bool = False


class NotBooked(msgspec.Struct, frozen=True, kw_only=True, tag="not_booked"):
    """The reservation cannot be; nothing has changed."""

    name: str
    short: Short


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

    A job is released, whole, and waits (``queued``) or can be asked for again; of leases and endpoints those members that are left
    stay where they are, and the lost ones hold their seats until their nodes return or the workload ends.
    """

    workload: str
    released: bool
    queued: bool = False
    why: Told
