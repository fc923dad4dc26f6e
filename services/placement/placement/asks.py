"""The door for questions and wishes about endpoints, one function each."""

from datetime import datetime

from mesh_contracts.ask import Principal, Problem
from mesh_contracts.placement import (
    ChangeEndpoint,
    CreateEndpoint,
    DeleteEndpoint,
    Endpoint,
    Endpoints,
    GetEndpoint,
    ListEndpoints,
)
from mesh_contracts.units import derived_id
from meshkit.clock import Clock
from meshkit.store import Transaction

from placement import memory, reading, store
from placement.domain.admit import (
    ENDPOINTS_PER_PROJECT_MAX,
    admit,
    bad_replicas,
    bad_routing,
    invalid,
)
from placement.domain.fleet import Wanted
from placement.domain.scale import Need
from placement.domain.show import show_endpoint
from placement.naming import moved_on, project_of, sees_all, taken, the_one
from placement.scaling import rescale
from placement.settle import settle


async def create_endpoint(
    ask: CreateEndpoint, principal: Principal, tx: Transaction, clock: Clock
) -> Endpoint | Problem:
    """Write the endpoint down, place its replicas, and answer with what it is by then."""
    engine = admit(ask)
    if isinstance(engine, Problem):
        return engine
    project = await project_of(ask.project, principal, tx)
    if isinstance(project, Problem):
        return project
    await memory.hold(tx, ask.site)
    if await reading.find_wanted(tx, project.project_id, ask.name):
        return taken("an endpoint", ask.name)
    if await reading.count_wanted(tx, project.project_id) >= ENDPOINTS_PER_PROJECT_MAX:
        return Problem(
            title="Too many endpoints",
            status=422,
            code="too_many_endpoints",
            detail=f"a project may have {ENDPOINTS_PER_PROJECT_MAX} endpoints: delete one first",
        )
    now = clock.now()
    endpoint_id = derived_id("endpoint", ask.asked_at, ask.ask_id)
    wanted = Wanted(
        endpoint_id=endpoint_id,
        organization=project.organization,
        project=project.project_id,
        project_name=project.name,
        name=ask.name,
        site=ask.site,
        model=ask.model,
        engine=engine,
        resources=ask.resources,
        residency=ask.residency,
        replicas=ask.replicas,
        wanted=ask.replicas.min,
        need=Need(awake_at=now),
        routing=ask.routing,
        state="pending",
        ready=0,
        generation=1,
        created_at=now,
        since=now,
    )
    await store.keep_endpoint(tx, wanted)
    await settle(tx, ask, now, endpoints=[endpoint_id])
    return await _shown(tx, endpoint_id, now)


async def list_endpoints(
    ask: ListEndpoints, principal: Principal, tx: Transaction, clock: Clock
) -> Endpoints:
    """Return the endpoints the principal sees, by name, without their workloads."""
    limit = max(1, min(ask.page.limit, reading.PAGE_MAX))
    found = []
    if sees_all(principal) or principal.project is not None:
        project = None if sees_all(principal) else principal.project
        found = await reading.list_wanted(tx, project, ask.page.cursor or "", limit + 1)
    shown = found[:limit]
    return Endpoints(
        items=[show_endpoint(wanted, (), clock.now()) for wanted in shown],
        next=f"{shown[-1].name} {shown[-1].endpoint_id}" if len(found) > limit else None,
    )


async def get_endpoint(
    ask: GetEndpoint, principal: Principal, tx: Transaction, clock: Clock
) -> Endpoint | Problem:
    """Return one endpoint with its workloads, the last that ended included."""
    wanted = await _wanted(ask.endpoint, principal, tx)
    return wanted if isinstance(wanted, Problem) else await _shown(tx, wanted.endpoint_id, clock.now())


async def change_endpoint(
    ask: ChangeEndpoint, principal: Principal, tx: Transaction, clock: Clock
) -> Endpoint | Problem:
    """Give the endpoint other bounds or another routing, and start or stop replicas accordingly."""
    await memory.hold(tx, ask.site)
    wanted = await _wanted(ask.endpoint, principal, tx)
    if isinstance(wanted, Problem):
        return wanted
    fault = (
        moved_on("endpoint", wanted.generation, ask.generation)
        or _bad_change(ask, wanted.name)
        or _gone(wanted)
    )
    if fault is not None:
        return fault
    now = clock.now()
    await store.wish(tx, wanted, replicas=ask.replicas, routing=ask.routing)
    await rescale(tx, [wanted.endpoint_id], now)
    await settle(tx, ask, now, endpoints=[wanted.endpoint_id])
    return await _shown(tx, wanted.endpoint_id, now)


async def delete_endpoint(
    ask: DeleteEndpoint, principal: Principal, tx: Transaction, clock: Clock
) -> Endpoint | Problem:
    """Stop the endpoint's engines; its route is gone once they are. Again, it is answered the same."""
    await memory.hold(tx, ask.site)
    wanted = await _wanted(ask.endpoint, principal, tx)
    if isinstance(wanted, Problem):
        return wanted
    now = clock.now()
    if wanted.deleted:
        return await _shown(tx, wanted.endpoint_id, now)
    fault = moved_on("endpoint", wanted.generation, ask.generation)
    if fault is not None:
        return fault
    await store.wish(tx, wanted, deleted=True)
    await settle(tx, ask, now, endpoints=[wanted.endpoint_id])
    return await _shown(tx, wanted.endpoint_id, now)


async def _wanted(text: str, principal: Principal, tx: Transaction) -> Wanted | Problem:
    found = []
    if sees_all(principal) or principal.project is not None:
        found = await reading.find_wanted(tx, None if sees_all(principal) else principal.project, text)
    return the_one("endpoint", text, found)


async def _shown(tx: Transaction, endpoint_id: str, now: datetime) -> Endpoint:
    wanted = await reading.load_wanted(tx, endpoint_id)
    assert wanted is not None, "it was loaded in this transaction"
    return show_endpoint(wanted, await reading.load_workloads(tx, endpoint_id), now)


def _bad_change(ask: ChangeEndpoint, name: str) -> Problem | None:
    if ask.replicas is None and ask.routing is None:
        return invalid("replicas", "say what is to change: replicas, routing, or both", "missing_field")
    fault = None if ask.replicas is None else bad_replicas(ask.replicas)
    return fault or (None if ask.routing is None else bad_routing(ask.routing, name))


def _gone(wanted: Wanted) -> Problem | None:
    if not wanted.deleted:
        return None
    detail = "it is being deleted: create it anew once it has stopped"
    return Problem(
        title="The endpoint is stopping", status=409, code="endpoint_stopping", detail=detail
    )
