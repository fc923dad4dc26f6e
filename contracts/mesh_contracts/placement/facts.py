"""What placement tells."""

from typing import ClassVar

import msgspec

from mesh_contracts.fact import Fact
from mesh_contracts.placement.nouns import (
    EndpointState,
    Reason,
)
from mesh_contracts.units import (
    Count,
    EndpointId,
    Name,
    NodeId,
    WorkloadId,
)


class NodeCordoned(Fact, frozen=True, kw_only=True, tag="placement.node.cordoned/1"):
    """Nothing new is placed on the node; its replicas are moved. Its key is the node's id."""

    node_id: NodeId
    reasons: list[Reason]


class NodeReturned(Fact, frozen=True, kw_only=True, tag="placement.node.returned/1"):
    """The node takes work again."""

    node_id: NodeId


class NodeDrained(Fact, frozen=True, kw_only=True, tag="placement.node.drained/1"):
    """Nothing runs on the node any more: it may be opened, moved or switched off."""

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
    """An endpoint is in a new state. Its key is the endpoint's id.

    ``ready`` replicas answer; ``wanted`` is how many demand asks for (absent where others run it).
    """

    per_tenant: ClassVar[bool] = True

    endpoint_id: EndpointId
    name: Name
    state: EndpointState
    ready: Count
    reasons: list[Reason] = msgspec.field(default_factory=list)
    wanted: Count | None = None


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
