"""What goes on at each endpoint, as this gateway sees it: what placement scales by."""

from collections.abc import Mapping

from mesh_contracts.placement import Route

from inference_gateway.domain.demand import Seen
from inference_gateway.domain.directory import Directory
from inference_gateway.waiting import Lines


class Activity:
    """When each endpoint last had a request, and how many tokens it has made. Bounded by the routes."""

    def __init__(self, directory: Directory, lines: Lines) -> None:
        self._directory = directory
        self._lines = lines
        self._ended: dict[str, float] = {}
        self._tokens: dict[str, int] = {}

    def ended(self, endpoint_id: str, tokens: int, now: float) -> None:
        """Note the end of a request."""
        self._ended[endpoint_id] = now
        self._tokens[endpoint_id] = self._tokens.get(endpoint_id, 0) + tokens

    def snapshot(self) -> Mapping[str, Seen]:
        """Return what stands at each endpoint that has had a request, or has one."""
        now = self._lines.loop.time()
        seen = {}
        for route in self._directory:
            endpoint_id = route.endpoint_id
            in_flight, tokens = self._lines.fleet.in_flight(endpoint_id)
            queued = self._lines.queued(endpoint_id)
            last = self._ended.get(endpoint_id)
            if in_flight or queued:
                idle_ms = 0
            elif last is None:
                continue
            else:
                idle_ms = int((now - last) * 1_000)
            seen[endpoint_id] = Seen(
                in_flight=in_flight,
                queued=queued,
                in_flight_tokens=tokens,
                tokens_total=self._tokens.get(endpoint_id, 0),
                idle_ms=idle_ms,
                waking=queued > 0 and not route.replicas,
            )
        return seen

    def put(self, endpoint_id: str, route: Route | None) -> None:
        """Forget an endpoint that is gone."""
        if route is None:
            self._ended.pop(endpoint_id, None)
            self._tokens.pop(endpoint_id, None)
