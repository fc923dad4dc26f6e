"""Sites, what their parts may draw, and when nodes are worked on: placement's."""

from litestar import Controller, Response, delete, get, post
from litestar.params import FromPath, JSONBody
from mesh_contracts import placement

from inference_gateway.http.api.asking import (
    AnyRequest,
    Asker,
    Asking,
    Cursor,
    Limit,
    generation_of,
    page,
)
from inference_gateway.http.api.fleet import shown
from inference_gateway.http.api.work import Ended
from inference_gateway.http.api.work_bodies import Moved, NewCap, NewMaintenance, Rearm, Room
from inference_gateway.http.problems import refused


class Sites(Controller):
    """Halls. One today: the site that this gateway stands in."""

    path = "/sites"
    tags = ["placement"]  # noqa: RUF012 - the framework's way

    @get()
    async def list(self, request: AnyRequest, asker: Asking) -> placement.Sites:
        """List the sites: to tenants what each offers, to operators what it holds and draws."""
        found: placement.Sites = await asker(request, placement.ListSites)
        return found

    @get("/{site:str}")
    async def one(self, request: AnyRequest, asker: Asking, site: FromPath[str]) -> placement.Site:
        """Show one site."""
        known(asker, site)
        found: placement.Site = await asker(request, placement.GetSite)
        return found

    @get("/{site:str}/caps")
    async def caps(
        self,
        request: AnyRequest,
        asker: Asking,
        site: FromPath[str],
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> placement.PowerCaps:
        """List a site's power caps, with what each part draws by plan."""
        known(asker, site)
        found: placement.PowerCaps = await asker(request, placement.ListCaps, page=page(limit, cursor))
        return found

    @post("/{site:str}/caps", status_code=200)
    async def cap(
        self, request: AnyRequest, asker: Asking, site: FromPath[str], data: JSONBody[NewCap]
    ) -> Response[placement.PowerCap]:
        """Cap what a part of a site draws, or lift its cap (`watts` null); `If-Match` is heeded where it is sent."""
        known(asker, site)
        made: placement.PowerCap = await asker(
            request,
            placement.SetCap,
            level=data.level,
            domain=data.domain,
            watts=data.watts,
            generation=generation_of(request),
        )
        return shown(made, 201 if made.generation == 1 else 200)

    @post("/{site:str}/moves", status_code=200)
    async def moves(
        self, request: AnyRequest, asker: Asking, site: FromPath[str], data: JSONBody[Room]
    ) -> placement.Moves:
        """Show which moves would make room for more members of a shape; none is made. `{site}:move` makes them."""
        known(asker, site)
        found: placement.Moves = await asker(
            request,
            placement.PlanMoves,
            resources=data.resources,
            residency=data.residency,
            isolation=data.isolation,
            moves_max=data.moves_max,
        )
        return found

    @get("/{site:str}/moves")
    async def moving(
        self, request: AnyRequest, asker: Asking, site: FromPath[str]
    ) -> placement.Movings:
        """List the moves that are not over, each with what it waits for."""
        known(asker, site)
        found: placement.Movings = await asker(request, placement.ListMoves)
        return found

    @post("/{site:str}/move", status_code=202)
    async def move(
        self, request: AnyRequest, asker: Asking, site: FromPath[str], data: JSONBody[Moved]
    ) -> placement.Movings:
        """Have replicas sit elsewhere: each serves until its successor answers there."""
        known(asker, site)
        made: placement.Movings = await asker(request, placement.MakeMoves, moves=data.moves)
        return made

    @post("/{site:str}/rearm", status_code=200)
    async def rearm(
        self, request: AnyRequest, asker: Asking, site: FromPath[str], data: JSONBody[Rearm]
    ) -> placement.Breaker:
        """Have failed health checks take nodes out again, after a person has looked why so many did."""
        known(asker, site)
        found: placement.Breaker = await asker(request, placement.RearmBreaker, reason=data.reason)
        return found

    @get("/{site:str}/maintenance")
    async def windows(
        self,
        request: AnyRequest,
        asker: Asking,
        site: FromPath[str],
        *,
        limit: Limit = 100,
        cursor: Cursor = None,
        ended: Ended = False,
    ) -> placement.Maintenances:
        """List the maintenance windows, each with what still is on its nodes; with `ended` also those that are over."""
        known(asker, site)
        found: placement.Maintenances = await asker(
            request, placement.ListMaintenance, ended=ended, page=page(limit, cursor)
        )
        return found

    @post("/{site:str}/maintenance", status_code=201)
    async def maintain(
        self, request: AnyRequest, asker: Asking, site: FromPath[str], data: JSONBody[NewMaintenance]
    ) -> placement.Maintenance:
        """Plan to work on nodes: what would still be there is not placed, at the start they are drained, at the end checked."""
        known(asker, site)
        made: placement.Maintenance = await asker(
            request,
            placement.PlanMaintenance,
            nodes=data.nodes,
            starts_at=data.starts_at,
            ends_at=data.ends_at,
            reason=data.reason,
        )
        return made

    @delete("/{site:str}/maintenance/{window:str}", status_code=202)
    async def give_back(
        self, request: AnyRequest, asker: Asking, site: FromPath[str], window: FromPath[str]
    ) -> placement.Maintenance:
        """Cancel a window; one that has begun ends now, and its nodes are checked and take work again."""
        known(asker, site)
        gone: placement.Maintenance = await asker(request, placement.CancelMaintenance, window=window)
        return gone


def known(asker: Asker, site: str) -> None:
    """Raise ``Refused`` (404) for a site that this gateway does not stand in."""
    if site != asker.site:
        raise refused(
            404,
            "site_not_found",
            "No such site",
            f"This gateway knows no site {site[:80]}; GET /api/v1/sites lists those it knows.",
            param="site",
        )
