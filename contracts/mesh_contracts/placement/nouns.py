"""Nodes, endpoints, workloads, and what stands in the bucket ``routes``."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mesh_contracts.node import (
    Check,
    Device,
)
from mesh_contracts.units import (
    Count,
    EndpointId,
    Name,
    NodeId,
    OrganizationId,
    ProjectId,
    Sequence,
    Site,
    Time,
    WorkloadId,
)

NodeState = Literal[
    "enrolled", "validating", "ready", "cordoned", "draining", "repairing", "lost", "retired"
]
EndpointState = Literal["pending", "starting", "serving", "degraded", "stopping", "stopped", "asleep"]
WorkloadState = Literal["assigned", "starting", "ready", "stopping", "stopped", "failed"]
MigProfile = Annotated[str, Meta(max_length=32)]
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
    """What serves the model. ``external`` routes to ``url``, which the mesh does not start.

    ``loras`` are what ``vllm`` loads beside the model: a folder or repository each, by the name that a route asks for.
    """

    kind: EngineKind = "llama"
    url: str | None = None
    embedding: bool = False
    loras: dict[Name, str] = {}


class Replicas(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """How many engines serve one endpoint; between ``min`` and ``max`` by demand.

    A replica is wished for where ``target`` requests a replica in flight or queued is passed for
    ``up_after_ms``; one less where fewer would do for ``down_after_ms``; none (with ``min`` 0)
    after ``sleep_after_ms`` without a request.
    """

    min: Count = 1
    max: Count = 1
    target: Annotated[int, Meta(ge=1, le=10_000)] = 4
    up_after_ms: Count = 5_000
    down_after_ms: Count = 60_000
    sleep_after_ms: Count = 300_000


class Alias(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Another name that leads here. Of several endpoints with one alias each gets its weight's share."""

    name: Name
    weight: Annotated[int, Meta(ge=0, le=1_000)] = 100


class Routing(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """How the gateway chooses among an endpoint's replicas, and what bounds it.

    ``by``: ``least_load`` (tokens in flight, two choices), ``prefix`` (the replica that has seen the
    beginning of the prompt, unless it is overloaded), ``round_robin``. ``sticky`` keeps a session (the
    ``user`` or ``prompt_cache_key`` field) or a key on one replica. ``parallel_max`` is how many
    requests one replica takes at once (0: as many as its engine is known to), ``queue_max`` how many wait.
    ``fallbacks`` are models of the project to ask where no replica here answers. ``overhead_tokens`` is what the
    model's own template may add to a prompt, ``context_tokens`` the most it takes, ``answer_tokens``
    the cap where a client gives none. ``cache_shared`` lets other projects share this engine's prefix cache.
    """

    by: Literal["least_load", "prefix", "round_robin"] = "least_load"
    sticky: Literal["none", "session", "key"] = "none"
    aliases: Annotated[list[Alias], Meta(max_length=16)] = []
    fallbacks: Annotated[list[Name], Meta(max_length=8)] = []
    loras: Annotated[list[Name], Meta(max_length=64)] = []
    parallel_max: Annotated[int, Meta(ge=0, le=100_000)] = 0
    queue_max: Annotated[int, Meta(ge=0, le=100_000)] = 256
    queue_wait_ms: Annotated[int, Meta(ge=0, le=600_000)] = 30_000
    hedge_after_ms: Annotated[int, Meta(ge=0, le=600_000)] = 0
    overhead_tokens: Annotated[int, Meta(ge=0, le=1_000_000)] = 256
    context_tokens: Annotated[int, Meta(ge=0, le=100_000_000)] = 0
    answer_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] = 4_096
    cache_shared: bool = False

    def __hash__(self) -> int:
        # As a default it is looked up by its hash where a schema is made of it, and lists have none.
        return hash((self.by, self.sticky, self.parallel_max))


class Resources(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What one replica or member takes: whole ``gpus``, a fraction (``gpu_milli``) or a MIG instance; memory, CPU.

    ``mig`` is the instance's profile (``3g.40gb``), as the GPU's model has it.
    """

    gpus: Count = 0
    gpu_milli: Count = 0
    mig: MigProfile | None = None
    gpu_model: str | None = None
    memory_mib: Count = 256
    cpu_milli: Count = 0


class MigInstance(msgspec.Struct, frozen=True, kw_only=True):
    """One MIG instance of a GPU: its profile, and the first of the memory slices that it takes."""

    profile: MigProfile
    start: Count


class Residency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the data may be (ISO 3166-1 alpha-2); a hard constraint."""

    jurisdictions: list[str] = msgspec.field(default_factory=lambda: ["FR"])


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
    created_at: Time
    replicas: list[Replica] = []
    reasons: list[Reason] = []
    routing: Routing = Routing()
    wakes: bool = False
    """Whether a request is worth holding though no replica serves: one is on its way, or is woken."""


class Workload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A replica, a member of a job or a server of a lease, as its owner sees it.

    ``address`` and ``console`` are where a leased server is reached that is its tenant's, as its agent told them.
    """

    id: WorkloadId
    node: Name
    node_id: NodeId
    state: WorkloadState
    since: Time
    reasons: list[Reason] = []
    address: str | None = None
    console: str | None = None


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
    created_at: Time
    since: Time
    project: str | None = None
    reasons: list[Reason] = []
    workloads: list[Workload] = []
    routing: Routing = Routing()
    wanted: Count | None = None
    """How many replicas demand asks for now, within ``replicas``."""


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Endpoints by name."""

    items: list[Endpoint]
    next: str | None = None


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One server as placement last saw it; where it stands, for what, and at how many watts, as in ``NodeJoined``.

    ``mig_free``: how many instances of each profile would fit its GPUs in MIG mode, if no others came.
    """

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
    since: Time
    seen_at: Time | None = None
    reasons: list[Reason] = []
    checks: list[Check] = []
    cpus: Count = 0
    place: dict[Name, Name] = {}
    assurances: list[Name] = []
    idle_w: Count = 0
    gpu_w: Count = 0
    mig_free: dict[str, Count] = {}


class Nodes(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes by name."""

    items: list[Node]
    next: str | None = None
