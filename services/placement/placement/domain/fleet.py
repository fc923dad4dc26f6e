"""What is known of nodes, endpoints and workloads when placement decides."""

from datetime import datetime

import msgspec
from mesh_contracts.node import Check
from mesh_contracts.placement import (
    EndpointState,
    Engine,
    Model,
    NodeState,
    Reason,
    Replicas,
    Residency,
    Resources,
    Routing,
    WorkloadState,
)

from placement.domain.scale import Need

MILLI_PER_GPU = 1_000
LIVING = ("assigned", "starting", "ready")
"""States of a workload that is there to serve."""
ENDED = ("stopped", "failed")
"""States of a workload that holds nothing any more."""
LEAVING = ("cordoned", "draining", "repairing", "retired")
"""States of a node whose workloads are handed over. A validating one keeps what it has."""

MAINTENANCE = "maintenance"
"""The code of a node's reason that a maintenance window has taken it out."""
WORKLOADS_PER_NODE_MAX = 256
"""Whatever their size: all that a node should run is one message, and so is its heartbeat."""


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """One device, and the thousandths of it that nobody holds; ``card`` is its position for the engine.

    One in MIG mode (``mig``) is given in instances only: ``slices`` are those of its memory that they take, as bits.
    """

    device_id: str
    index: int
    card: int
    model: str
    memory_mib: int
    rehearsal: bool
    free_milli: int
    mig: bool = False
    slices: int = 0

    @property
    def idle(self) -> bool:
        """Whether nobody holds a part of it."""
        return self.free_milli == MILLI_PER_GPU and not self.slices


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """One node as placement last saw it; ``generation`` counts its changes.

    ``silent``: nobody hears it, but it fell silent with too many others to be given up. ``place`` is
    where it stands, by level; ``idle_w`` and ``gpu_w`` are its watts idle, and of each GPU at work.
    """

    node_id: str
    name: str
    site: str
    state: NodeState
    generation: int
    jurisdiction: str
    memory_mib: int
    memory_free_mib: int
    cards: tuple[Card, ...]
    since: datetime
    cpus: int = 0
    check_wished: int = 0
    check_needed: int = 0
    workloads: int = 0
    silent: bool = False
    reasons: tuple[Reason, ...] = ()
    checks: tuple[Check, ...] = ()
    place: dict[str, str] = {}
    assurances: tuple[str, ...] = ()
    idle_w: int = 0
    gpu_w: int = 0

    @property
    def free_milli(self) -> int:
        """Return the thousandths of GPUs that are free on it, over all its devices that are not in MIG mode."""
        return sum(card.free_milli for card in self.cards if not card.mig)


class Held(msgspec.Struct, frozen=True, array_like=True):
    """Thousandths of one device that a workload holds; of an instance its memory slices, as bits."""

    device_id: str
    milli: int
    slices: int = 0


WATTS_DRAWN = Reason(
    code="watts_still_drawn",
    detail="who gave way to others is still being stopped, under the same power cap",
)
"""Why what has its seat is not begun yet: no cap is broken, not even for a moment."""


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """One workload: where, in which state, what it holds, and whose successor it is.

    ``moves_to`` is the node where somebody has asked it to sit instead, ``moves_until`` when that is given up.
    """

    workload_id: str
    endpoint_id: str
    node_id: str
    node: str
    site: str
    node_state: NodeState
    state: WorkloadState
    since: datetime
    created_at: datetime
    devices: tuple[Held, ...]
    memory_mib: int
    api_key: str
    scheme: str = "http"
    address: str | None = None
    ready_at: datetime | None = None
    replaces: str | None = None
    drains_until: datetime | None = None
    moves_to: str | None = None
    moves_until: datetime | None = None
    reasons: tuple[Reason, ...] = ()

    @property
    def living(self) -> bool:
        """Whether it is there to serve (it may not answer yet)."""
        return self.state in LIVING

    @property
    def held_back(self) -> bool:
        """Whether its node is not told of it yet, as something has to end first."""
        return self.state == "assigned" and WATTS_DRAWN in self.reasons

    @property
    def leaving(self) -> bool:
        """Whether its node hands its work over."""
        return self.node_state in LEAVING

    @property
    def draining(self) -> bool:
        """Whether it finishes what it has, and is not told to stop yet."""
        return self.state == "stopping" and self.drains_until is not None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint: what was asked for, what demand makes of it, and what became of it so far."""

    endpoint_id: str
    organization: str
    project: str
    project_name: str
    name: str
    site: str
    model: Model
    engine: Engine
    resources: Resources
    residency: Residency
    replicas: Replicas
    wanted: int
    state: EndpointState
    ready: int
    generation: int
    created_at: datetime
    since: datetime
    deleted: bool = False
    failures: int = 0
    missing: int = 0
    retry_at: datetime | None = None
    route_digest: bytes | None = None
    look_at: datetime | None = None
    reasons: tuple[Reason, ...] = ()
    routing: Routing = Routing()
    need: Need = Need()

    @property
    def external(self) -> bool:
        """Whether the mesh only routes to it."""
        return self.engine.kind == "external"

    @property
    def count(self) -> int:
        """How many replicas should run on nodes now."""
        return 0 if self.deleted or self.external else self.wanted


class Occasion(msgspec.Struct, frozen=True, kw_only=True):
    """What made placement look again where no fact and no ask did: time passed."""

    fact_id: str
    occurred_at: datetime
    site: str
    traceparent: str | None = None
