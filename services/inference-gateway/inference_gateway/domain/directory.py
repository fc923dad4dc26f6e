"""Which endpoint a project's model name means, and which replica is asked next."""

from collections.abc import Iterable, Mapping

from mesh_contracts.placement import Replica, Route

from inference_gateway.domain.faults import Fault, unavailable

GONE = ("stopping", "stopped")


class Directory:
    """All routes by project and name; of several with one name the living, then the newest."""

    def __init__(self) -> None:
        self._by_id: dict[str, Route] = {}
        self._by_name: dict[tuple[str, str], dict[str, Route]] = {}
        self._best: dict[tuple[str, str], Route] = {}

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

    @property
    def replicas(self) -> int:
        """How many engines can be asked, over all endpoints."""
        return sum(len(route.replicas) for route in self._best.values())

    def find(self, project: str, name: str) -> Route | None:
        """Return the route of a project's model."""
        return self._best.get((project, name))

    def of(self, project: str) -> list[Route]:
        """Return a project's routes by name, without those on their way out."""
        return sorted(
            (
                route
                for (owner, _), route in self._best.items()
                if owner == project and route.state not in GONE
            ),
            key=lambda route: route.name,
        )

    def _forget(self, name: tuple[str, str], endpoint_id: str) -> None:
        held = self._by_name[name]
        del held[endpoint_id]
        if held:
            self._choose(name)
        else:
            del self._by_name[name], self._best[name]

    def _choose(self, name: tuple[str, str]) -> None:
        self._best[name] = max(
            self._by_name[name].values(),
            key=lambda route: (route.state not in GONE, route.created_at, route.endpoint_id),
        )


def least_busy(
    replicas: Iterable[Replica], in_flight: Mapping[str, int], tried: Iterable[str], turn: int
) -> Replica | None:
    """Return the replica with the fewest requests in flight that was not tried; ties go round by ``turn``."""
    passed = set(tried)
    left = [replica for replica in replicas if replica.workload_id not in passed]
    if not left:
        return None
    first = turn % len(left)
    return min(left[first:] + left[:first], key=lambda replica: in_flight.get(replica.workload_id, 0))


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
