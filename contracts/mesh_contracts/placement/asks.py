"""What placement answers."""

from typing import Any, ClassVar

import msgspec

from mesh_contracts.ask import Ask, Page
from mesh_contracts.placement.explanation import Explanation
from mesh_contracts.placement.nouns import (
    Endpoint,
    Endpoints,
    Engine,
    Model,
    Node,
    Nodes,
    Replicas,
    Residency,
    Resources,
    Routing,
)
from mesh_contracts.placement.shapes import Changes, Isolation, Members, Names, Near, Priority
from mesh_contracts.units import (
    Count,
    Name,
    Sequence,
    Text,
)


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
    routing: Routing = Routing()


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
    """Wish for other replica bounds or routing, provided the endpoint is still at ``generation``.

    What is absent stays as it is.
    """

    permission: ClassVar[str] = "endpoint.write"
    reply: ClassVar[Any] = Endpoint
    changes: ClassVar[bool] = True

    endpoint: Text
    replicas: Replicas | None = None
    generation: Sequence
    routing: Routing | None = None


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
    """Wish that a node takes no new work and hands over what it has; ``generation`` as in a change."""

    permission: ClassVar[str] = "node.write"
    reply: ClassVar[Any] = Node
    changes: ClassVar[bool] = True

    node: Text
    reason: Text
    generation: Sequence | None = None


class DrainNode(Ask, frozen=True, kw_only=True, tag="placement.node.drain"):
    """Wish that a node is emptied: its replicas and jobs go elsewhere, leases stay until they end.

    Jobs that are not preemptible may go on for ``grace_s``. Once nothing runs there it is ``repairing``.
    """

    permission: ClassVar[str] = "node.write"
    reply: ClassVar[Any] = Node
    changes: ClassVar[bool] = True

    node: Text
    reason: Text
    grace_s: Count = 3_600
    generation: Sequence | None = None


class ReturnNode(Ask, frozen=True, kw_only=True, tag="placement.node.return"):
    """Wish that a cordoned node takes work again; it is checked first."""

    permission: ClassVar[str] = "node.write"
    reply: ClassVar[Any] = Node
    changes: ClassVar[bool] = True

    node: Text
    generation: Sequence | None = None


class CheckNode(Ask, frozen=True, kw_only=True, tag="placement.node.check"):
    """Wish for a health check now."""

    permission: ClassVar[str] = "node.write"
    reply: ClassVar[Any] = Node
    changes: ClassVar[bool] = True

    node: Text
    generation: Sequence | None = None


class ExplainPlacement(Ask, frozen=True, kw_only=True, tag="placement.placement.explain"):
    """Ask where so many members of this shape would go, without placing them.

    What is ``supposed`` to happen happens to a copy of the site first, one after the other; the site
    stays as it is.
    """

    permission: ClassVar[str] = "endpoint.read"
    reply: ClassVar[Any] = Explanation

    resources: Resources = Resources()
    residency: Residency = Residency()
    members: Members = 1
    near: Near = Near()
    isolation: Isolation = "none"
    assurances: Names = msgspec.field(default_factory=list)
    priority: Priority = 100
    supposed: Changes = msgspec.field(default_factory=list)
