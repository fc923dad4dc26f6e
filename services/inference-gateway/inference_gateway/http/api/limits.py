"""Budgets and limits: metering's. Gateways hold what these leave, and refuse beyond it."""

from collections.abc import Awaitable, Callable
from typing import Any

from litestar import Controller, Response, delete, get, post
from litestar.params import FromPath, JSONBody
from mesh_contracts import metering

from inference_gateway.http.api.asking import (
    LIMIT_MAX,
    AnyRequest,
    Asking,
    Cursor,
    Limit,
    generation_of,
    page,
)
from inference_gateway.http.api.bodies import NewBudget, NewLimit
from inference_gateway.http.problems import refused

PAGES_MAX = 100


class Budgets(Controller):
    """What an organization, a project, a key or an endpoint may spend in a period."""

    path = "/budgets"
    tags = ["metering"]  # noqa: RUF012 - the framework's way

    @post(status_code=200)
    async def set(
        self, request: AnyRequest, asker: Asking, data: JSONBody[NewBudget]
    ) -> Response[metering.Budget]:
        """Set a scope's budget: 201 where it had none, else 200; `If-Match` is heeded where it is sent."""
        made: metering.Budget = await asker(
            request,
            metering.SetBudget,
            scope_kind=data.scope.kind,
            scope=data.scope.id,
            amount_microeur=data.amount_microeur,
            period=data.period,
            hard=data.hard,
            warn_percent=data.warn_percent,
            generation=generation_of(request),
        )
        return _set("budgets", made)

    @get()
    async def list(
        self, request: AnyRequest, asker: Asking, limit: Limit = 100, cursor: Cursor = None
    ) -> metering.Budgets:
        """List the budgets of what the caller sees, with what is spent and what gateways hold."""
        found: metering.Budgets = await asker(request, metering.ListBudgets, page=page(limit, cursor))
        return found

    @get("/{budget:str}")
    async def one(
        self, request: AnyRequest, asker: Asking, budget: FromPath[str]
    ) -> Response[metering.Budget]:
        """Show one budget."""

        async def listed(cursor: str | None) -> Any:
            return await asker(request, metering.ListBudgets, page=page(LIMIT_MAX, cursor))

        return _shown(await _found("budget", budget, listed))

    @delete("/{budget:str}", status_code=200)
    async def delete(
        self, request: AnyRequest, asker: Asking, budget: FromPath[str]
    ) -> Response[metering.Budget]:
        """Delete a budget; `If-Match` is heeded where it is sent."""
        generation = generation_of(request)
        return _shown(await asker(request, metering.DeleteBudget, budget=budget, generation=generation))


class Limits(Controller):
    """How often, and how much at once, an organization, a project, a key or an endpoint may ask."""

    path = "/limits"
    tags = ["metering"]  # noqa: RUF012 - the framework's way

    @post(status_code=200)
    async def set(
        self, request: AnyRequest, asker: Asking, data: JSONBody[NewLimit]
    ) -> Response[metering.Limit]:
        """Set a scope's limits: 201 where it had none, else 200; `If-Match` is heeded where it is sent."""
        made: metering.Limit = await asker(
            request,
            metering.SetLimit,
            scope_kind=data.scope.kind,
            scope=data.scope.id,
            requests_per_minute=data.requests_per_minute,
            tokens_per_minute=data.tokens_per_minute,
            parallel_requests=data.parallel_requests,
            generation=generation_of(request),
        )
        return _set("limits", made)

    @get()
    async def list(
        self, request: AnyRequest, asker: Asking, limit: Limit = 100, cursor: Cursor = None
    ) -> metering.Limits:
        """List the limits of what the caller sees."""
        found: metering.Limits = await asker(request, metering.ListLimits, page=page(limit, cursor))
        return found

    @get("/{limit_id:str}")
    async def one(
        self, request: AnyRequest, asker: Asking, limit_id: FromPath[str]
    ) -> Response[metering.Limit]:
        """Show one scope's limits."""

        async def listed(cursor: str | None) -> Any:
            return await asker(request, metering.ListLimits, page=page(LIMIT_MAX, cursor))

        return _shown(await _found("limit", limit_id, listed))

    @delete("/{limit_id:str}", status_code=200)
    async def delete(
        self, request: AnyRequest, asker: Asking, limit_id: FromPath[str]
    ) -> Response[metering.Limit]:
        """Delete a scope's limits; `If-Match` is heeded where it is sent."""
        generation = generation_of(request)
        return _shown(await asker(request, metering.DeleteLimit, limit=limit_id, generation=generation))


class Holdings(Controller):
    """What each gateway holds of budgets, ahead of need."""

    path = "/holdings"
    tags = ["metering"]  # noqa: RUF012 - the framework's way

    @get()
    async def list(
        self, request: AnyRequest, asker: Asking, limit: Limit = 100, cursor: Cursor = None
    ) -> metering.Holdings:
        """List the gateways that hold anything, those that are gone among them."""
        found: metering.Holdings = await asker(request, metering.ListHoldings, page=page(limit, cursor))
        return found

    @delete("/{holding:str}", status_code=200)
    async def release(
        self, request: AnyRequest, asker: Asking, holding: FromPath[str]
    ) -> metering.Holding:
        """Free what a gateway holds that has been gone for ten minutes and will not come back with its journal."""
        was: metering.Holding = await asker(request, metering.ReleaseHolding, producer=holding)
        return was


async def _found(what: str, wanted: str, listed: Callable[[str | None], Awaitable[Any]]) -> Any:
    """Return the one with this id, of all that the caller sees. Raises ``Refused`` (404)."""
    cursor: str | None = None
    for _ in range(PAGES_MAX):
        found = await listed(cursor)
        for one in found.items:
            if one.id == wanted:
                return one
        cursor = found.next
        if cursor is None:
            break
    raise refused(
        404,
        f"{what}_not_found",
        f"No such {what}",
        f"You see no {what} {wanted[:80]}; GET /api/v1/{what}s lists those you see.",
    )


def _set(path: str, made: Any) -> Response[Any]:
    answer = _shown(made, 201 if made.generation == 1 else 200)
    answer.headers["location"] = f"/api/v1/{path}/{made.id}"
    return answer


def _shown(found: Any, status: int = 200) -> Response[Any]:
    """Return an object with its generation as ``ETag``."""
    return Response(found, status_code=status, headers={"etag": f'"{found.generation}"'})
