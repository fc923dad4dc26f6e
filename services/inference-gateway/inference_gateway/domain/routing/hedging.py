"""When a second replica is asked beside the first, because the first is late with its first byte."""

from mesh_contracts.placement import Route

from inference_gateway.domain.routing.fleet import Chosen, Fleet

PROBE_PATIENCE_S = 2.0
"""How long a probe may be late: whoever's request it is was not told that it is one."""

USUAL_TIMES = 2.0
"""Never before so many times a usual first byte: where all are late, asking twice makes it worse."""


def hedge_after(route: Route, fleet: Fleet, now: float, chosen: Chosen) -> float | None:
    """Return after how many seconds without a first byte another replica is asked too, or nothing.

    Only where the endpoint wishes it, or the request is a probe; and only where another replica is
    well and has a place now. Ask anew when the time has come.
    """
    wished_s = route.routing.hedge_after_ms / 1_000
    if chosen.by == "probe":
        wished_s = min(wished_s or PROBE_PATIENCE_S, PROBE_PATIENCE_S)
    if not wished_s or not fleet.elsewhere(chosen, now):
        return None
    return max(wished_s, USUAL_TIMES * fleet.usual_s(route))
