"""Which endpoint a project's model name means, and where else its requests may go."""

from collections.abc import Iterator

from mesh_contracts.placement import Route

from inference_gateway.domain.faults import Fault, unavailable
from inference_gateway.domain.names import Names, Way, live


class Directory:
    """All routes by project and name; of several with one name the living, then the newest."""

    def __init__(self) -> None:
        self._by_id: dict[str, Route] = {}
        self._by_name: dict[tuple[str, str], dict[str, Route]] = {}
        self._best: dict[tuple[str, str], Route] = {}
        self._names: dict[str, Names] = {}

    def put(self, endpoint_id: str, route: Route | None) -> None:
        """Learn a route, or (``None``) forget it."""
        before = self._by_id.pop(endpoint_id, None)
        if before is not None:
            self._forget((before.project, before.name), endpoint_id)
        if route is not None:
            self._by_id[endpoint_id] = route
            name = (route.project, route.name)
            self._by_name.setdefault(name, {})[endpoint_id] = route
            self._choose(name)

    def __iter__(self) -> Iterator[Route]:
        """Go over every route, also those on their way out."""
        return iter(list(self._by_id.values()))

    @property
    def replicas(self) -> int:
        """How many engines can be asked, over all endpoints."""
        return sum(len(route.replicas) for route in self._best.values())

    def current(self, endpoint_id: str) -> Route | None:
        """Return a route as it stands now: a call that waited holds an old one."""
        return self._by_id.get(endpoint_id)

    def find(self, project: str, name: str) -> Route | None:
        """Return the route of a project's model."""
        return self._best.get((project, name))

    def resolve(
        self, project: str, name: str, *, session: str | None = None, chance: float = 0.0
    ) -> tuple[Way, ...]:
        """Return the ways a request may go, in order: what the name means, then its fallbacks.

        A model's own name beats an alias, and an alias a LoRA. Of several endpoints with one alias
        ``chance`` (from 0 to below 1) draws one by their weights; a ``session`` always draws the same.
        Empty where the name means nothing in the project.
        """
        names = self._names.get(project)
        return names.ways(name, session, chance) if names is not None else ()

    def of(self, project: str) -> list[Route]:
        """Return a project's routes by name, without those on their way out."""
        names = self._names.get(project)
        return names.listed() if names is not None else []

    def called(self, project: str) -> list[tuple[str, Route]]:
        """Return every name that can be asked for in a project, with a route it leads to, by name."""
        names = self._names.get(project)
        return names.called() if names is not None else []

    def _forget(self, name: tuple[str, str], endpoint_id: str) -> None:
        held = self._by_name[name]
        del held[endpoint_id]
        if held:
            self._choose(name)
            return
        del self._by_name[name], self._best[name]
        project, own = name
        self._names[project].drop(own)
        if self._names[project].empty:
            del self._names[project]

    def _choose(self, name: tuple[str, str]) -> None:
        best = self._best[name] = max(
            self._by_name[name].values(),
            key=lambda route: (live(route), route.created_at, route.endpoint_id),
        )
        self._names.setdefault(name[0], Names()).put(best)


def no_such_model(name: str) -> Fault:
    """Return the refusal of a name that means nothing in the caller's project."""
    return Fault(
        status=404,
        code="model_not_found",
        param="model",
        message=f"The model '{name[:80]}' does not exist in your project. GET /v1/models lists those that do; "
        "POST /api/v1/endpoints deploys one.",
    )


def not_serving(route: Route) -> Fault:
    """Return why a known model has no replica to ask, with placement's own reasons."""
    why = "; ".join(reason.detail for reason in route.reasons) or f"its endpoint is {route.state}"
    return unavailable(
        f"endpoint_{route.state}" if route.state != "serving" else "endpoint_without_replica",
        f"The model '{route.name}' cannot answer now: {why}. "
        f"GET /api/v1/endpoints/{route.endpoint_id} shows its state; try again.",
        retry_after_s=2,
        reasons=list(route.reasons),
    )
