"""What placement tells, answers and writes: nodes, endpoints, who runs where, and why not."""

from datetime import datetime
from typing import Any, ClassVar, Literal

import msgspec

from mesh_contracts.ask import Ask, Page
from mesh_contracts.fact import Fact
from mesh_contracts.node import Check, Device
from mesh_contracts.units import (
    Count,
    DeviceId,
    EndpointId,
    Name,
    NodeId,
    OrganizationId,
    ProjectId,
    Sequence,
    Site,
    Text,
    WorkloadId,
)

NodeState = Literal[
    "enrolled", "validating", "ready", "cordoned", "draining", "repairing", "lost", "retired"
]
EndpointState = Literal["pending", "starting", "serving", "degraded", "stopping", "stopped", "asleep"]
WorkloadState = Literal["assigned", "starting", "ready", "stopping", "stopped", "failed"]
EngineKind = Literal["llama", "vllm", "external"]


class Reason(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why something is as it is: ``code`` for programs, ``detail`` for people, what unblocks it."""

    code: str
    detail: str
    unblock: str | None = None
    count: int | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which weights: ``{"id": "tiny", "source": "builtin"}`` is what ``mesh up`` ships."""

    id: str
    source: str = "builtin"


class Engine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What serves the model. ``external`` routes to ``url``, which the mesh does not start."""

    kind: EngineKind = "llama"
    url: str | None = None
    embedding: bool = False


class Replicas(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many engines serve one endpoint."""

    min: Count = 1
    max: Count = 1


class Resources(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What one replica takes: whole ``gpus`` or a fraction (``gpu_milli``), and memory."""

    gpus: Count = 0
    gpu_milli: Count = 0
    gpu_model: str | None = None
    memory_mib: Count = 256


class Residency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the data may be (ISO 3166-1 alpha-2); a hard constraint."""

    jurisdictions: list[str] = msgspec.field(default_factory=lambda: ["FR"])


class WorkloadSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing a node should run. ``api_key`` opens its engine; it travels in buckets only."""

    workload_id: WorkloadId
    endpoint_id: EndpointId
    organization: OrganizationId
    project: ProjectId
    name: Name
    model: Model
    engine: Engine
    resources: Resources
    devices: list[DeviceId]
    api_key: str


class Intent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bucket ``intents``, key ``<node id>``: all that the node should run and do, level-triggered.

    ``check`` rises when a health check is wished for; the node runs one when it is above the
    last it ran. A workload that is no longer listed is stopped.
    """

    node_id: NodeId
    workloads: list[WorkloadSpec] = []
    check: Sequence = 0


class Replica(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One engine that answers for an endpoint. ``trust`` is ``loopback`` or ``tls``."""

    workload_id: WorkloadId
    scheme: Literal["http", "https"] = "http"
    address: str
    api_key: str
    trust: Literal["loopback", "tls", "external"] = "loopback"
    node_id: NodeId | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bucket ``routes``, key ``<endpoint id>``: which replicas answer for a project's model name.

    Kept, without replicas, while an endpoint is not serving: ``reasons`` say why.
    """

    endpoint_id: EndpointId
    organization: OrganizationId
    project: ProjectId
    name: Name
    engine: EngineKind
    model_id: str
    embedding: bool = False
    state: EndpointState = "serving"
    created_at: datetime
    replicas: list[Replica] = []
    reasons: list[Reason] = []


class NodeCordoned(Fact, frozen=True, kw_only=True, tag="placement.node.cordoned/1"):
    """Nothing new is placed on the node; its replicas are moved. Its key is the node's id."""

    node_id: NodeId
    reasons: list[Reason]


class NodeReturned(Fact, frozen=True, kw_only=True, tag="placement.node.returned/1"):
    """The node takes work again."""

    node_id: NodeId


class NodeLost(Fact, frozen=True, kw_only=True, tag="placement.node.lost/1"):
    """The node fell silent while placement's own connection was whole."""

    node_id: NodeId
    silent_ms: Count


class SilenceSuspected(Fact, frozen=True, kw_only=True, tag="placement.silence.suspected/1"):
    """So many nodes fell silent at once that none is marked lost. Its key is the site."""

    silent: Count
    known: Count


class EndpointChanged(Fact, frozen=True, kw_only=True, tag="placement.endpoint.changed/1"):
    """An endpoint is in a new state. Its key is the endpoint's id."""

    per_tenant: ClassVar[bool] = True

    endpoint_id: EndpointId
    name: Name
    state: EndpointState
    ready: Count
    reasons: list[Reason] = msgspec.field(default_factory=list)


class WorkloadAssigned(Fact, frozen=True, kw_only=True, tag="placement.workload.assigned/1"):
    """A node should run the workload. Its key is the workload's id."""

    per_tenant: ClassVar[bool] = True

    workload_id: WorkloadId
    endpoint_id: EndpointId
    node_id: NodeId
    reasons: list[Reason] = msgspec.field(default_factory=list)


class WorkloadMoved(Fact, frozen=True, kw_only=True, tag="placement.workload.moved/1"):
    """A workload's work goes on as ``successor_id``, elsewhere; ``reasons`` say why it had to."""

    per_tenant: ClassVar[bool] = True

    workload_id: WorkloadId
    successor_id: WorkloadId
    endpoint_id: EndpointId
    node_id: NodeId
    to_node_id: NodeId
    reasons: list[Reason]


class WorkloadRefused(Fact, frozen=True, kw_only=True, tag="placement.workload.refused/1"):
    """A replica fits nowhere now. Its key is the endpoint's id; it is tried again on change."""

    per_tenant: ClassVar[bool] = True

    endpoint_id: EndpointId
    reasons: list[Reason]


class Workload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A replica as its owner sees it."""

    id: WorkloadId
    node: Name
    node_id: NodeId
    state: WorkloadState
    since: datetime
    reasons: list[Reason] = []


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model served behind the gateway under ``name``."""

    id: EndpointId
    name: Name
    project_id: ProjectId
    organization_id: OrganizationId
    model: Model
    engine: Engine
    replicas: Replicas
    resources: Resources
    residency: Residency
    site: Site
    state: EndpointState
    ready: Count
    generation: Sequence
    created_at: datetime
    since: datetime
    project: str | None = None
    reasons: list[Reason] = []
    workloads: list[Workload] = []


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Endpoints by name."""

    items: list[Endpoint]
    next: str | None = None


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One server as placement last saw it."""

    id: NodeId
    name: Name
    site: Site
    state: NodeState
    rehearsal: bool
    devices: list[Device]
    gpus: Count
    gpu_milli_free: Count
    memory_mib: Count
    memory_mib_free: Count
    workloads: Count
    generation: Sequence
    since: datetime
    seen_at: datetime | None = None
    reasons: list[Reason] = []
    checks: list[Check] = []


class Nodes(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes by name."""

    items: list[Node]
    next: str | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a replica would go, and what each constraint left over, in order."""

    fits: bool
    survivors: list[Reason]
    node: Name | None = None
    reasons: list[Reason] = []


class CreateEndpoint(Ask, frozen=True, kw_only=True, tag="placement.endpoint.create"):
    """Wish for an endpoint. A name taken in the project is a problem ``name_taken``."""

    permission: ClassVar[str] = "endpoint.write"
    reply: ClassVar[Any] = Endpoint
    changes: ClassVar[bool] = True

    name: Name
    project: Text
    model: Model
    engine: Engine = Engine()
    replicas: Replicas = Replicas()
    resources: Resources = Resources()
    residency: Residency = Residency()


class ListEndpoints(Ask, frozen=True, kw_only=True, tag="placement.endpoint.list"):
    """Ask for the endpoints the principal sees."""

    permission: ClassVar[str] = "endpoint.read"
    reply: ClassVar[Any] = Endpoints

    page: Page = Page()


class GetEndpoint(Ask, frozen=True, kw_only=True, tag="placement.endpoint.get"):
    """Ask for one endpoint (its id, or its name in the principal's project)."""

    permission: ClassVar[str] = "endpoint.read"
    reply: ClassVar[Any] = Endpoint

    endpoint: Text


class ChangeEndpoint(Ask, frozen=True, kw_only=True, tag="placement.endpoint.change"):
    """Wish for other replica bounds, provided the endpoint is still at ``generation``."""

    permission: ClassVar[str] = "endpoint.write"
    reply: ClassVar[Any] = Endpoint
    changes: ClassVar[bool] = True

    endpoint: Text
    replicas: Replicas
    generation: Sequence


class DeleteEndpoint(Ask, frozen=True, kw_only=True, tag="placement.endpoint.delete"):
    """Wish that an endpoint stops; it stays listed as ``stopping`` until its engines are gone."""

    permission: ClassVar[str] = "endpoint.write"
    reply: ClassVar[Any] = Endpoint
    changes: ClassVar[bool] = True

    endpoint: Text
    generation: Sequence | None = None


class ListNodes(Ask, frozen=True, kw_only=True, tag="placement.node.list"):
    """Ask for the site's nodes."""

    permission: ClassVar[str] = "node.read"
    reply: ClassVar[Any] = Nodes

    page: Page = Page()


class GetNode(Ask, frozen=True, kw_only=True, tag="placement.node.get"):
    """Ask for one node (its id or name)."""

    permission: ClassVar[str] = "node.read"
    reply: ClassVar[Any] = Node

    node: Text


class CordonNode(Ask, frozen=True, kw_only=True, tag="placement.node.cordon"):
    """Wish that a node takes no new work and hands over what it has."""

    permission: ClassVar[str] = "node.write"
    reply: ClassVar[Any] = Node
    changes: ClassVar[bool] = True

    node: Text
    reason: Text


class ReturnNode(Ask, frozen=True, kw_only=True, tag="placement.node.return"):
    """Wish that a cordoned node takes work again; it is checked first."""

    permission: ClassVar[str] = "node.write"
    reply: ClassVar[Any] = Node
    changes: ClassVar[bool] = True

    node: Text


class CheckNode(Ask, frozen=True, kw_only=True, tag="placement.node.check"):
    """Wish for a health check now."""

    permission: ClassVar[str] = "node.write"
    reply: ClassVar[Any] = Node
    changes: ClassVar[bool] = True

    node: Text


class ExplainPlacement(Ask, frozen=True, kw_only=True, tag="placement.placement.explain"):
    """Ask where one more replica of this shape would go, without placing it."""

    permission: ClassVar[str] = "endpoint.read"
    reply: ClassVar[Any] = Explanation

    resources: Resources = Resources()
    residency: Residency = Residency()
