"""Nodes, endpoints and where things would go: placement's; and every owner's dead letters."""

from typing import Any, Literal

from litestar import Controller, Response, delete, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody
from mesh_contracts import placement
from mesh_contracts.ask import DeadLetters, Empty, ListDeadLetters, RedriveDeadLetter

from inference_gateway.http.api.asking import (
    AnyRequest,
    Asking,
    Cursor,
    Limit,
    generation_of,
    page,
    project_of,
)
from inference_gateway.http.api.bodies import Cordon, EndpointChange, NewEndpoint, Nothing
from inference_gateway.http.api.work_bodies import Drain, Shape
from inference_gateway.http.problems import refused

Owner = Literal["identity", "placement", "metering", "carbon"]
"""Who reads facts, and so may have dead letters."""


class Nodes(Controller):
    """Servers."""

    path = "/nodes"
    tags = ["placement"]  # noqa: RUF012 - the framework's way

    @get()
    async def list(
        self, request: AnyRequest, asker: Asking, limit: Limit = 100, cursor: Cursor = None
    ) -> placement.Nodes:
        """List the nodes."""
        found: placement.Nodes = await asker(request, placement.ListNodes, page=page(limit, cursor))
        return found

    @get("/{node:str}")
    async def one(
        self, request: AnyRequest, asker: Asking, node: FromPath[str]
    ) -> Response[placement.Node]:
        """Show one node (its id or name)."""
        return shown(await asker(request, placement.GetNode, node=node))

    @post("/{node:str}/cordon", status_code=202)
    async def cordon(
        self,
        request: AnyRequest,
        asker: Asking,
        node: FromPath[str],
        data: JSONBody[Cordon | None] = None,
    ) -> Response[placement.Node]:
        """Have a node take no new work and hand over what it has."""
        why = (data or Cordon()).reason
        return shown(
            await asker(
                request, placement.CordonNode, node=node, reason=why, generation=generation_of(request)
            ),
            202,
        )

    @post("/{node:str}/drain", status_code=202)
    async def drain(
        self,
        request: AnyRequest,
        asker: Asking,
        node: FromPath[str],
        data: JSONBody[Drain | None] = None,
    ) -> Response[placement.Node]:
        """Empty a node: replicas and jobs go elsewhere, at the deadline those that cannot be preempted, too."""
        wished = data or Drain()
        return shown(
            await asker(
                request,
                placement.DrainNode,
                node=node,
                reason=wished.reason,
                grace_s=wished.grace_s,
                generation=generation_of(request),
            ),
            202,
        )

    @post("/{node:str}/return", status_code=202)
    async def give_back(
        self,
        request: AnyRequest,
        asker: Asking,
        node: FromPath[str],
        data: JSONBody[Nothing | None] = None,
    ) -> Response[placement.Node]:
        """Have a cordoned node checked, and take work again.

        A server that its agent runs beside (``AGENT_DEVICES=declared``) is checked by its erase image: its disks are erased.
        """
        del data
        return shown(
            await asker(request, placement.ReturnNode, node=node, generation=generation_of(request)),
            202,
        )

    @post("/{node:str}/check", status_code=202)
    async def check(
        self,
        request: AnyRequest,
        asker: Asking,
        node: FromPath[str],
        data: JSONBody[Nothing | None] = None,
    ) -> Response[placement.Node]:
        """Have a node's health checked now.

        A server that its agent runs beside (``AGENT_DEVICES=declared``) is checked by its erase image: its disks are erased.
        """
        del data
        return shown(
            await asker(request, placement.CheckNode, node=node, generation=generation_of(request)), 202
        )


class Endpoints(Controller):
    """Models served behind the gateway."""

    path = "/endpoints"
    tags = ["placement"]  # noqa: RUF012 - the framework's way

    @post(status_code=202)
    async def create(
        self, request: AnyRequest, asker: Asking, data: JSONBody[NewEndpoint]
    ) -> Response[placement.Endpoint]:
        """Deploy a model; it serves under ``name`` in /v1 once its state says so."""
        made: placement.Endpoint = await asker(
            request,
            placement.CreateEndpoint,
            name=data.name,
            project=project_of(request, asker, data.project),
            model=data.model,
            engine=data.engine,
            replicas=data.replicas,
            resources=data.resources,
            residency=data.residency,
            routing=data.routing,
        )
        answer = shown(made, 202)
        answer.headers["location"] = f"/api/v1/endpoints/{made.id}"
        return answer

    @get()
    async def list(
        self, request: AnyRequest, asker: Asking, limit: Limit = 100, cursor: Cursor = None
    ) -> placement.Endpoints:
        """List the endpoints the caller sees."""
        found: placement.Endpoints = await asker(
            request, placement.ListEndpoints, page=page(limit, cursor)
        )
        return found

    @get("/{endpoint:str}")
    async def one(
        self, request: AnyRequest, asker: Asking, endpoint: FromPath[str]
    ) -> Response[placement.Endpoint]:
        """Show one endpoint (its id, or its name in the caller's project)."""
        return shown(await asker(request, placement.GetEndpoint, endpoint=endpoint))

    @patch("/{endpoint:str}", status_code=202)
    async def change(
        self,
        request: AnyRequest,
        asker: Asking,
        endpoint: FromPath[str],
        data: JSONBody[EndpointChange],
    ) -> Response[placement.Endpoint]:
        """Change the bounds, the routing, or both; ``If-Match`` holds the generation that was read."""
        if data.replicas is None and data.routing is None:
            raise refused(
                422, "missing_field", "Invalid request", "Say what is to change: 'replicas', 'routing'."
            )
        generation = generation_of(request)
        if generation is None:
            raise refused(
                428,
                "if_match_required",
                "Which generation?",
                "Send If-Match with the endpoint's 'generation', so that no other change is lost.",
                param="If-Match",
            )
        changed = await asker(
            request,
            placement.ChangeEndpoint,
            endpoint=endpoint,
            replicas=data.replicas,
            routing=data.routing,
            generation=generation,
        )
        return shown(changed, 202)

    @delete("/{endpoint:str}", status_code=202)
    async def stop(
        self, request: AnyRequest, asker: Asking, endpoint: FromPath[str]
    ) -> Response[placement.Endpoint]:
        """Stop an endpoint; ``If-Match`` is heeded where it is sent."""
        generation = generation_of(request)
        gone = await asker(request, placement.DeleteEndpoint, endpoint=endpoint, generation=generation)
        return shown(gone, 202)


@post("/placements:explain", status_code=200, tags=["placement"])
async def explain(request: AnyRequest, asker: Asking, data: JSONBody[Shape]) -> placement.Explanation:
    """Explain where members of this shape would go, without placing them, on the site as `changes` would make it."""
    told: placement.Explanation = await asker(
        request,
        placement.ExplainPlacement,
        resources=data.resources,
        residency=data.residency,
        members=data.members,
        near=data.near,
        isolation=data.isolation,
        assurances=data.assurances,
        priority=data.priority,
        supposed=data.changes,
    )
    return told


class Letters(Controller):
    """Facts that a reader gave up on: for operators."""

    path = "/dead-letters"
    tags = ["operation"]  # noqa: RUF012 - the framework's way

    @get()
    async def list(
        self,
        request: AnyRequest,
        asker: Asking,
        owner: FromQuery[Owner],
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> DeadLetters:
        """List one owner's dead letters."""
        found: DeadLetters = await asker(
            request, ListDeadLetters, owner=owner, page=page(limit, cursor)
        )
        return found

    @post("/{owner:str}/{letter:int}/redrive", status_code=200)
    async def redrive(
        self,
        request: AnyRequest,
        asker: Asking,
        owner: FromPath[Owner],
        letter: FromPath[int],
        data: JSONBody[Nothing | None] = None,
    ) -> Empty:
        """Have a fact handled once more."""
        del data
        done: Empty = await asker(request, RedriveDeadLetter, owner=owner, dead_letter_id=letter)
        return done


def shown(found: Any, status: int = 200) -> Response[Any]:
    """Return an object with its generation as ``ETag``."""
    return Response(found, status_code=status, headers={"etag": f'"{found.generation}"'})
