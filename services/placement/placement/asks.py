"""The door for questions and wishes about endpoints, one function each."""

from datetime import datetime

from mesh_contracts.ask import Principal, Problem
from mesh_contracts.placement import (
    ChangeEndpoint,
    CreateEndpoint,
    DeleteEndpoint,
    Endpoint,
    Endpoints,
    ExplainPlacement,
    Explanation,
    GetEndpoint,
    ListEndpoints,
)
from mesh_contracts.units import derived_id
from meshkit.clock import Clock
from meshkit.errors import NotHeardYet
from meshkit.store import Transaction

from placement import memory, reading, store
from placement.domain.admit import (
    ENDPOINTS_PER_PROJECT_MAX,
    admit,
    bad_jurisdictions,
    bad_replicas,
    bad_resources,
    bad_routing,
    invalid,
)
from placement.domain.decide import Grant, answer_of, wish_for
from placement.domain.fleet import Wanted
from placement.domain.scale import Need
from placement.domain.show import show_endpoint
from placement.reading import Project
from placement.scaling import rescale
from placement.settle import settle


def _missing(what: str, name: str, todo: str) -> Problem:
    return Problem(
        title=f"No such {what}",
        status=404,
        code=f"{what}_not_found",
        detail=f"there is no {what} {name!r} that you can see: {todo}",
        param=what,
    )


async def create_endpoint(
    ask: CreateEndpoint, principal: Principal, tx: Transaction, clock: Clock
) -> Endpoint | Problem:
    """Write the endpoint down, place its replicas, and answer with what it is by then."""
    engine = admit(ask)
    if isinstance(engine, Problem):
        return engine
    project = await _project(ask, principal, tx)
    if isinstance(project, Problem):
        return project
    await memory.hold(tx, ask.site)
    if await reading.find_wanted(tx, project.project_id, ask.name):
        return Problem(
            title="The name is taken",
            status=409,
            code="name_taken",
            detail=f"the project has an endpoint {ask.name!r}: choose another name, or change or delete that one",
            param="name",
        )
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
    if _sees_all(principal) or principal.project is not None:
        project = None if _sees_all(principal) else principal.project
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
    fault = _moved_on(wanted, ask.generation) or _bad_change(ask, wanted.name) or _gone(wanted)
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
    fault = None if ask.generation is None else _moved_on(wanted, ask.generation)
    if fault is not None:
        return fault
    await store.wish(tx, wanted, deleted=True)
    await settle(tx, ask, now, endpoints=[wanted.endpoint_id])
    return await _shown(tx, wanted.endpoint_id, now)


async def explain_placement(
    ask: ExplainPlacement,
    principal: Principal,  # noqa: ARG001 - anybody who may read endpoints may ask
    tx: Transaction,
    clock: Clock,  # noqa: ARG001
) -> Explanation | Problem:
    """Return where one more replica of this shape would go, or why nowhere. Nothing is taken."""
    fault = bad_resources(ask.resources) or bad_jurisdictions(ask.residency.jurisdictions)
    if fault is not None:
        return fault
    held = await memory.hold(tx, ask.site)
    would = held.engine.would(wish_for(ask.resources, ask.residency))
    answer = answer_of(would, ask.resources, ask.residency)
    if isinstance(answer, Grant):
        server = await reading.load_server(tx, answer.node_id)
        assert server is not None, "the engine and the table know the same nodes"
        return Explanation(fits=True, survivors=list(answer.survivors), node=server.name)
    return Explanation(fits=False, survivors=list(answer.survivors), reasons=list(answer.reasons))


async def _project(ask: CreateEndpoint, principal: Principal, tx: Transaction) -> Project | Problem:
    """Return the project that is meant: an id, a name, or ``organization/name``."""
    found = [
        item for item in await reading.find_projects(tx, ask.project) if principal.sees(item.project_id)
    ]
    own = [item for item in found if item.organization == principal.organization]
    found = own if len(own) == 1 else found
    if not found:
        todo = "give its id, its name, or organization/name; GET /api/v1/projects lists them"
        raise NotHeardYet(_missing("project", ask.project, todo))
    if len(found) > 1:
        return Problem(
            title="Several projects have that name",
            status=422,
            code="project_ambiguous",
            detail=f"{len(found)} projects are called {ask.project!r}: give organization/name or the id",
            param="project",
        )
    return found[0]


async def _wanted(text: str, principal: Principal, tx: Transaction) -> Wanted | Problem:
    found = []
    if _sees_all(principal) or principal.project is not None:
        found = await reading.find_wanted(tx, None if _sees_all(principal) else principal.project, text)
    if not found:
        return _missing("endpoint", text, "GET /api/v1/endpoints lists yours")
    if len(found) > 1:
        return Problem(
            title="Several endpoints have that name",
            status=422,
            code="endpoint_ambiguous",
            detail=f"several projects have an endpoint {text!r}: give its id",
            param="endpoint",
        )
    return found[0]


async def _shown(tx: Transaction, endpoint_id: str, now: datetime) -> Endpoint:
    wanted = await reading.load_wanted(tx, endpoint_id)
    assert wanted is not None, "it was loaded in this transaction"
    return show_endpoint(wanted, await reading.load_workloads(tx, endpoint_id), now)


def _sees_all(principal: Principal) -> bool:
    return principal.sees(None)


def _moved_on(wanted: Wanted, generation: int) -> Problem | None:
    if wanted.generation == generation:
        return None
    return Problem(
        title="The endpoint has changed since",
        status=412,
        code="generation_mismatch",
        detail=f"it is at generation {wanted.generation}, not {generation}: read it again, then repeat your change",
        param="generation",
    )


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
