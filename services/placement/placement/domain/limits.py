"""How long a state may last; past it the object is listed as stuck, with what would unblock it."""

from datetime import datetime

import msgspec
from mesh_contracts.placement import Reason

HOUR_S = 3_600
DAY_S = 24 * HOUR_S


class Limit(msgspec.Struct, frozen=True):
    """Seconds that a state may last, and what to do where it lasts longer."""

    seconds: int
    unblock: str


_AGENT = "look at the node's agent: is it connected, and what does its log say?"
_REPAIR = "repair it, then POST /api/v1/nodes/{id}:return; nothing else opens it"

NODE: dict[str, Limit] = {
    "enrolled": Limit(HOUR_S // 4, "start the node's agent: it has enrolled and never joined"),
    "validating": Limit(120, _AGENT),
    "cordoned": Limit(DAY_S, _REPAIR),
    "draining": Limit(HOUR_S, "see which endpoints still run there: their successors may not fit"),
    "repairing": Limit(7 * DAY_S, _REPAIR),
    "lost": Limit(HOUR_S, "see whether the server has power and network, and whether its agent runs"),
}
"""States that a node should leave."""
NODE_AT_REST = ("ready", "retired")

ENDPOINT: dict[str, Limit] = {
    "pending": Limit(600, "do what its other reasons name, or ask for less"),
    "starting": Limit(300, "see the workloads' reasons"),
    "degraded": Limit(600, "do what its other reasons name; see the workloads' reasons"),
    "stopping": Limit(120, _AGENT),
}
"""States that an endpoint should leave."""
ENDPOINT_AT_REST = ("serving", "asleep", "stopped")

WORKLOAD: dict[str, Limit] = {
    "assigned": Limit(60, _AGENT),
    "starting": Limit(300, "look at the engine's log on its node: it does not answer"),
    "stopping": Limit(120, _AGENT),
}
"""States that a workload should leave."""
WORKLOAD_AT_REST = ("ready", "stopped", "failed")

MEMBER: dict[str, Limit] = {
    "assigned": Limit(300, _AGENT),
    "starting": Limit(
        HOUR_S, "look at the log on its node: has it its image, does its power cycle end?"
    ),
    "stopping": Limit(600, _AGENT),
}
"""States that a member of a job, or a server of a lease, should leave."""
MEMBER_AT_REST = ("ready", "stopped", "failed")

JOB: dict[str, Limit] = {
    "queued": Limit(
        DAY_S, "do what its other reasons name, ask for less, or give it a higher priority"
    ),
    "admitted": Limit(HOUR_S // 2, "see the workloads' reasons: which member has not begun?"),
    "preempted": Limit(900, "see the workloads' reasons: which member has not stopped?"),
}
"""States that a job should leave. Running it is bounded by its own ``run_max_s``."""
JOB_AT_REST = ("running", "succeeded", "failed", "cancelled")

SERVER: dict[str, Limit] = {
    "erase": Limit(6 * HOUR_S, _AGENT),
    "attest": Limit(HOUR_S // 2, _AGENT),
}
"""What a server of a lease should have behind it, on its way to the next tenant."""

_SERVERS = "see the workloads' reasons: which server is late?"
LEASE: dict[str, Limit] = {
    "requested": Limit(DAY_S, "do what its other reasons name, or ask for less"),
    "reserved": Limit(900, _SERVERS),
    "provisioning": Limit(2 * HOUR_S, _SERVERS),
    "releasing": Limit(HOUR_S // 2, _SERVERS),
    "erasing": Limit(8 * HOUR_S, _SERVERS),
    "attesting": Limit(HOUR_S, _SERVERS),
}
"""States that a lease should leave. Active it is bounded by its own ``ends_at``."""
LEASE_AT_REST = ("active", "ended", "refused", "failed")


def stuck(limits: dict[str, Limit], state: str, since: datetime, now: datetime) -> tuple[Reason, ...]:
    """Return why something is listed as stuck, or nothing."""
    limit = limits.get(state)
    if limit is None or (now - since).total_seconds() <= limit.seconds:
        return ()
    detail = f"{state} since {since.isoformat()}, longer than {limit.seconds} s"
    return (Reason(code="stuck", detail=detail, unblock=limit.unblock),)
