"""The quarantine breaker's memory, and the door that re-arms it."""

from datetime import datetime, timedelta
from typing import Any

from mesh_contracts.ask import Principal, Problem
from mesh_contracts.fact import born_of
from mesh_contracts.placement import Breaker, BreakerRearmed, BreakerTripped, RearmBreaker
from meshkit.clock import Clock
from meshkit.store import Transaction
from meshkit.telemetry import METRICS

from placement import memory, reading
from placement.domain.breaker import WINDOW_S, counts, held, most
from placement.domain.fleet import Server
from placement.domain.health import HELD, Turn, on_check_wished
from placement.intents import put_intents
from placement.turns import turn_node

OPEN = "mesh_placement_breaker_open"


async def through(tx: Transaction, cause: Any, now: datetime, server: Server, to: Turn) -> Turn:
    """Return what a node turns into after its check, as far as the breaker lets it."""
    if not counts(server, to):
        return to
    breaker = await state(tx, server.site, now)
    if breaker.tripped_at is None and breaker.cordoned < breaker.most:
        await tx.change(
            "INSERT INTO quarantine (site, node_id, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            *(server.site, server.node_id, now),
        )
        return to
    if breaker.tripped_at is None:
        await _trip(tx, cause, now, server.site, breaker)
    return held(server, to, breaker.cordoned + 1, breaker.most)


async def state(tx: Transaction, site: str, now: datetime) -> Breaker:
    """Return how the breaker of a site stands."""
    row = await tx.row("SELECT tripped_at, armed_at FROM breaker WHERE site = $1", site)
    since = now - timedelta(seconds=WINDOW_S)
    if row is not None and row["armed_at"] is not None:
        since = max(since, row["armed_at"])
    cordoned = await tx.value(
        "SELECT count(DISTINCT node_id) FROM quarantine WHERE site = $1 AND at > $2", site, since
    )
    tripped_at = None if row is None else row["tripped_at"]
    METRICS.set(OPEN, int(tripped_at is not None))
    names = await _held(tx, site) if tripped_at is not None else {}
    return Breaker(
        cordoned=cordoned,
        most=most(await _gpu_nodes(tx, site)),
        window_s=WINDOW_S,
        tripped_at=tripped_at,
        held=sorted(names.values()),
    )


async def rearm_breaker(
    ask: RearmBreaker, principal: Principal, tx: Transaction, clock: Clock
) -> Breaker | Problem:
    """Have failed checks take nodes out again, and those that failed one meanwhile checked anew."""
    await memory.hold(tx, ask.site)
    now = clock.now()
    waiting = await _held(tx, ask.site)
    await tx.change(
        "INSERT INTO breaker (site, armed_at) VALUES ($1, $2)"
        " ON CONFLICT (site) DO UPDATE SET tripped_at = NULL, armed_at = $2",
        *(ask.site, now),
    )
    for server in await reading.load_servers(tx, sorted(waiting)):
        kept = tuple(reason for reason in server.reasons if reason.code != HELD)
        to = on_check_wished(server)
        await turn_node(
            tx,
            ask,
            now,
            server,
            Turn(
                state=to.state, reasons=kept, check_wished=to.check_wished, check_needed=to.check_needed
            ),
        )
        put_intents(tx, server.node_id)
    born = born_of(ask, now, BreakerRearmed, key=ask.site)
    await tx.tell(
        BreakerRearmed(
            **born, principal_id=principal.principal_id, reason=ask.reason, held=len(waiting)
        )
    )
    return await state(tx, ask.site, now)


async def forget(tx: Transaction, now: datetime) -> None:
    """Forget what is out of every window."""
    await tx.change("DELETE FROM quarantine WHERE at < $1", now - timedelta(seconds=WINDOW_S))


async def _trip(tx: Transaction, cause: Any, now: datetime, site: str, breaker: Breaker) -> None:
    await tx.change(
        "INSERT INTO breaker (site, tripped_at) VALUES ($1, $2)"
        " ON CONFLICT (site) DO UPDATE SET tripped_at = $2",
        *(site, now),
    )
    METRICS.set(OPEN, 1)
    await tx.tell(
        BreakerTripped(
            **born_of(cause, now, BreakerTripped, key=site),
            cordoned=breaker.cordoned,
            most=breaker.most,
            window_s=WINDOW_S,
            gpu_nodes=await _gpu_nodes(tx, site),
        )
    )


async def _gpu_nodes(tx: Transaction, site: str) -> int:
    return int(
        await tx.value(
            "SELECT count(*) FROM node n WHERE site = $1 AND state <> 'retired'"
            " AND EXISTS (SELECT FROM device d WHERE d.node_id = n.node_id AND present)",
            site,
        )
    )


async def _held(tx: Transaction, site: str) -> dict[str, str]:
    rows = await tx.rows(
        "SELECT node_id, name FROM node WHERE site = $1 AND reasons LIKE '%' || $2 || '%'", site, HELD
    )
    return {row["node_id"]: row["name"] for row in rows}
