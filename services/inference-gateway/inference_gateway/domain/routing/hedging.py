"""When a second replica is asked beside the first, because the first is late with its first byte."""

import math

from mesh_contracts.placement import Route

from inference_gateway.domain.routing.fleet import Chosen

PROBE_PATIENCE_S = 2.0
"""How long a probe may be late: whoever's request it is was not told that it is one."""

USUAL_TIMES = 2.0
"""Never before so many times a usual first byte: where all are late, asking twice makes it worse."""


def hedge_after(route: Route, chosen: Chosen) -> float:
    """Return after how many seconds without a first byte another replica is asked too; infinite for never.

    As soon as the endpoint wishes it; in any case once the first has been silent for longer than the slow
    of its endpoint are. Whether another one has a place is asked when the time has come.
    """
    pool = chosen.pool
    if len(pool.states) < 2:
        return math.inf
    wished_s = route.routing.hedge_after_ms / 1_000
    if chosen.by == "probe":
        wished_s = min(wished_s or PROBE_PATIENCE_S, PROBE_PATIENCE_S)
    return max(wished_s, USUAL_TIMES * pool.usual_s) if wished_s else pool.patience_s
