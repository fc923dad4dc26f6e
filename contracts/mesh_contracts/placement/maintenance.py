"""Maintenance windows: which nodes are worked on, from when until when, and what is in the way."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from mesh_contracts.ask import Ask, Page
from mesh_contracts.fact import Fact
from mesh_contracts.placement.nouns import Reason
from mesh_contracts.units import Count, Id, Name, NodeId, Site, Text, Time

WINDOW_NODES_MAX = 1_024
"""Nodes of one window."""

MaintenanceState = Literal["planned", "active", "ended", "cancelled"]
WindowNodes = Annotated[list[Text], Meta(min_length=1, max_length=WINDOW_NODES_MAX)]


class Remaining(msgspec.Struct, frozen=True, kw_only=True):
    """What is on the nodes of a window, and has to leave: a lease or a job, or one replica of an endpoint."""

    id: str
    kind: Literal["lease", "job", "endpoint"]


class Maintenance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A window in which nodes are worked on (``ends_at`` null: until it is cancelled).

    ``remain`` is there now and not known to have left by the start, leases first; at most a hundred are
    named, ``remain_count`` says how many there are.
    """

    id: Id
    site: Site
    state: MaintenanceState
    nodes: list[Name]
    starts_at: Time
    ends_at: Time | None
    reason: Text
    planned_by: str
    created_at: Time
    since: Time
    remain: list[Remaining] = []
    remain_count: Count = 0
    reasons: list[Reason] = []


class Maintenances(msgspec.Struct, frozen=True, kw_only=True):
    """Maintenance windows in the order in which they were planned."""

    items: list[Maintenance]
    next: str | None = None


class PlanMaintenance(Ask, frozen=True, kw_only=True, tag="placement.maintenance.plan"):
    """Wish to work on nodes (by id or by name) from ``starts_at`` to ``ends_at`` (null: until it is cancelled).

    Nothing that would still be there at the start is placed on them from now on. At the start they are
    drained, at the end those that nobody else took out are checked and take work again.
    """

    permission: ClassVar[str] = "maintenance.write"
    reply: ClassVar[Any] = Maintenance
    changes: ClassVar[bool] = True

    nodes: WindowNodes
    starts_at: Time
    ends_at: Time | None = None
    reason: Text


class ListMaintenance(Ask, frozen=True, kw_only=True, tag="placement.maintenance.list"):
    """Ask for the site's maintenance windows; with ``ended`` also for those that are over."""

    permission: ClassVar[str] = "maintenance.read"
    reply: ClassVar[Any] = Maintenances

    ended: bool = False
    page: Page = Page()


class CancelMaintenance(Ask, frozen=True, kw_only=True, tag="placement.maintenance.cancel"):
    """Wish that a window is no more: one that has begun ends now. Again, it is answered the same."""

    permission: ClassVar[str] = "maintenance.write"
    reply: ClassVar[Any] = Maintenance
    changes: ClassVar[bool] = True

    window: Text


class MaintenancePlanned(Fact, frozen=True, kw_only=True, tag="placement.maintenance.planned/1"):
    """These nodes are to be worked on: who said so, and why. The key is the window's id."""

    window_id: Id
    principal_id: str
    reason: Text
    node_ids: list[NodeId]
    starts_at: Time
    ends_at: Time | None


class MaintenanceStarted(Fact, frozen=True, kw_only=True, tag="placement.maintenance.started/1"):
    """The window has begun: its nodes are drained from now on, each is told of as cordoned and as drained."""

    window_id: Id
    node_ids: list[NodeId]


class MaintenanceEnded(Fact, frozen=True, kw_only=True, tag="placement.maintenance.ended/1"):
    """The window is over: what it took out is checked, and told of as returned once that passed.

    ``principal_id`` is who cancelled it (null: its time was over).
    """

    window_id: Id
    node_ids: list[NodeId]
    principal_id: str | None = None
