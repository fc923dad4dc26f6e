"""The SQL about demand: what gateways said last, which endpoints to look at, who is done draining."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from mesh_contracts.inference import DemandChanged
from meshkit.store import Transaction

from placement.domain.scale import Told

KEPT_S = 24 * 3_600
"""How long a word is remembered past its time, for the time of the last request; see ``WINDOW_MS_MAX``."""
PRODUCERS_MAX = 256
"""Gateways that are heard of one endpoint: those whose words stand longest."""
LOOKS_MAX = 200
"""Endpoints looked at again in one beat because a window passed."""
DRAINS_MAX = 200
"""Replicas that are told to stop in one beat."""
DRAIN_LEAST_S = 2.0
"""How long every gateway has, to learn that a replica gets no more requests, and to say what it still has."""


async def keep(tx: Transaction, fact: DemandChanged, now: datetime) -> list[str]:
    """Keep what a gateway tells of endpoints that are known here and not newer; return their ids."""
    told_at = min(fact.occurred_at, now)
    until = told_at + timedelta(milliseconds=fact.stands_ms)
    last = {one.endpoint_id: one for one in fact.demands}
    asked = [
        told_at - timedelta(milliseconds=min(one.idle_ms, KEPT_S * 1_000)) for one in last.values()
    ]
    rows = await tx.rows(
        "INSERT INTO demand (endpoint_id, producer, sequence, in_flight, queued, waking, asked_at, stands_until)"
        " SELECT e.endpoint_id, $2::text, $3::bigint, d.in_flight, d.queued, d.waking, d.asked_at,"
        "  $4::timestamptz"
        " FROM unnest($5::text[], $6::bigint[], $7::bigint[], $8::boolean[], $9::timestamptz[])"
        "  AS d (endpoint_id, in_flight, queued, waking, asked_at)"
        " JOIN endpoint e ON e.endpoint_id = d.endpoint_id AND e.site = $1 AND e.state <> 'stopped'"
        " ON CONFLICT (endpoint_id, producer) DO UPDATE SET sequence = $3, in_flight = excluded.in_flight,"
        "  queued = excluded.queued, waking = excluded.waking, asked_at = excluded.asked_at,"
        "  stands_until = $4 WHERE demand.sequence < $3"
        " RETURNING endpoint_id",
        *(fact.site, fact.producer, fact.sequence, until, list(last)),
        *([one.in_flight for one in last.values()], [one.queued for one in last.values()]),
        *([one.waking for one in last.values()], asked),
    )
    return [row["endpoint_id"] for row in rows]


async def told(tx: Transaction, endpoint_id: str) -> list[Told]:
    """Return what gateways said last of an endpoint, also what no longer stands."""
    rows = await tx.rows(
        "SELECT in_flight, queued, waking, asked_at, stands_until FROM demand WHERE endpoint_id = $1"
        " ORDER BY stands_until DESC LIMIT $2",
        *(endpoint_id, PRODUCERS_MAX),
    )
    return [Told(**row) for row in rows]


async def known(tx: Transaction, site: str, endpoint_ids: Sequence[str]) -> int:
    """Return how many of the endpoints are known at a site, and have not stopped."""
    return int(
        await tx.value(
            "SELECT count(*) FROM endpoint WHERE site = $1 AND state <> 'stopped' AND endpoint_id = ANY ($2)",
            *(site, list(endpoint_ids)),
        )
    )


async def to_look_at(tx: Transaction, site: str, now: datetime) -> list[str]:
    """Return endpoints of which a window has passed, the longest due first; ``LOOKS_MAX`` at most."""
    rows = await tx.rows(
        "SELECT endpoint_id FROM endpoint WHERE site = $1 AND look_at <= $2 ORDER BY look_at LIMIT $3",
        *(site, now, LOOKS_MAX),
    )
    return [row["endpoint_id"] for row in rows]


async def drained(tx: Transaction, site: str, now: datetime) -> list[str]:
    """Return replicas that have finished what they had, or whose time for that is over; ``DRAINS_MAX`` at most.

    One has finished once no gateway has a request of its endpoint at a replica.
    """
    rows = await tx.rows(
        "SELECT w.workload_id FROM workload w JOIN endpoint e USING (endpoint_id) WHERE e.site = $1"
        " AND w.drains_until IS NOT NULL AND (e.deleted OR w.drains_until <= $2 OR (w.since <= $3"
        "  AND NOT EXISTS (SELECT FROM demand d WHERE d.endpoint_id = w.endpoint_id"
        "   AND d.stands_until > $2 AND d.in_flight > 0))) ORDER BY w.since LIMIT $4",
        *(site, now, now - timedelta(seconds=DRAIN_LEAST_S), DRAINS_MAX),
    )
    return [row["workload_id"] for row in rows]


async def end_drains(tx: Transaction, workload_ids: Sequence[str]) -> list[str]:
    """Have replicas told to stop that were draining; return the nodes whose intents that changes."""
    rows = await tx.rows(
        "UPDATE workload SET drains_until = NULL WHERE workload_id = ANY ($1) AND drains_until IS NOT NULL"
        " RETURNING node_id",
        list(workload_ids),
    )
    return sorted({row["node_id"] for row in rows})


async def forget(tx: Transaction, now: datetime, batch: int) -> int:
    """Forget at most ``batch`` words that stopped standing ``KEPT_S`` ago; return how many."""
    return await tx.change(
        "DELETE FROM demand WHERE (endpoint_id, producer) IN (SELECT endpoint_id, producer FROM demand"
        " WHERE stands_until < $1 LIMIT $2)",
        *(now - timedelta(seconds=KEPT_S), batch),
    )
