"""From a change to its consequences: plan each endpoint it touches, apply, tell, put."""

import secrets
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from mesh_contracts import wire
from mesh_contracts.fact import born_of
from mesh_contracts.placement import (
    EndpointChanged,
    WorkloadAssigned,
    WorkloadMoved,
    WorkloadRefused,
)
from mesh_contracts.units import derived_id
from meshkit.store import Transaction

from placement import memory, nodes, owners, reading, replicas, store, work
from placement.domain.decide import Grant, Refusal, answer_of
from placement.domain.engine.wish import Asked, Refused
from placement.domain.engine.wish import Placed as Seated
from placement.domain.fleet import WATTS_DRAWN, Placed, Wanted
from placement.domain.plan import Plan, Seek, plan
from placement.domain.show import route_of
from placement.domain.wishes import milliseconds, wish_of
from placement.intents import put_intents
from placement.sitememory import Memory
from placement.sums import Take

KEY_BYTES = 32
DRAIN_MOST_S = 60.0
"""How long a replica that demand no longer asks for may take to finish the requests it has."""


def draw_key() -> str:
    """Return a fresh key that opens one replica's engine."""
    return secrets.token_hex(KEY_BYTES)


async def settle(
    tx: Transaction,
    cause: Any,
    now: datetime,
    *,
    endpoints: Collection[str] = (),
    node_ids: Collection[str] = (),
    freed: Collection[str] = (),
    seen: Container[str] = (),
    draw: Callable[[], str] = draw_key,
) -> None:
    """Look again at ``endpoints``, at those with work on ``node_ids``, and at those that lack replicas.

    Then at jobs and leases, those on ``node_ids`` that were not ``seen`` just now, and those that wait. On nodes where
    something was ``freed`` only at endpoints, and at what is held back there. Of those that lack replicas none is looked
    at for which there was no room, as long as nothing was decided that could have made some.

    What is started, stopped and told follows from ``cause`` (a fact, an ask or an occasion), of an endpoint that
    ``endpoints`` maps to another from that.
    """
    held = await memory.hold(tx, cause.site)
    causes = endpoints if isinstance(endpoints, Mapping) else {}
    touched = {*node_ids, *freed}
    for wanted in await reading.to_settle(tx, cause.site, endpoints, sorted(touched), held.refused):
        touched |= await _settle(tx, causes.get(wanted.endpoint_id, cause), now, wanted, draw)
    await nodes.know_late(tx, cause.site)
    put_intents(tx, *touched)
    await work.advance(tx, cause, now, node_ids=node_ids, freed=freed, seen=seen)


async def _settle(
    tx: Transaction, cause: Any, now: datetime, wanted: Wanted, draw: Callable[[], str]
) -> set[str]:
    """Have an endpoint have what it should; return the nodes on which something changes."""
    held = await memory.hold(tx, cause.site)
    workloads = await reading.load_workloads(tx, wanted.endpoint_id)
    answer = plan(wanted, workloads, _seeker(held, cause, wanted, now), now)
    if held.followed:
        # Whoever gave way to it leaves first.
        await work.look_at(tx, cause, now)
    if answer.refusal is not None:
        held.refused.add(wanted.endpoint_id)
    await _start(tx, cause, now, wanted, answer=answer, draw=draw)
    for item in answer.returns:
        await replicas.move(tx, item, "ready", now)
    for item in answer.stops:
        if item in answer.drains:
            await store.drain(tx, item, now, now + timedelta(seconds=DRAIN_MOST_S))
        else:
            await replicas.stop(tx, item, now, item.reasons)
    await store.settle(tx, wanted, answer, now)
    await _tell(tx, cause, now, wanted, answer)
    await put_route(tx, wanted.endpoint_id)
    return {place.grant.node_id for place in answer.places} | {item.node_id for item in answer.stops}


async def tell_moved(tx: Transaction, cause: Any, now: datetime, wanted: Wanted, item: Placed) -> None:
    """Tell that ``item`` has taken over its predecessor's work, where that was on another node."""
    before = None if item.replaces is None else await reading.load_workload(tx, item.replaces)
    if before is None or before.node_id == item.node_id:
        return
    await tx.tell(
        WorkloadMoved(
            **_born(cause, now, WorkloadMoved, wanted, before.workload_id),
            workload_id=before.workload_id,
            successor_id=item.workload_id,
            endpoint_id=wanted.endpoint_id,
            node_id=before.node_id,
            to_node_id=item.node_id,
            reasons=list(before.reasons or await _why(tx, before)),
        )
    )


async def put_route(tx: Transaction, endpoint_id: str) -> None:
    """Have the bucket hold an endpoint's route, where it is another than the last put."""
    wanted = await reading.load_wanted(tx, endpoint_id)
    if wanted is None:
        return
    if wanted.state == "stopped":
        if wanted.route_digest is not None:
            await tx.drop("routes", endpoint_id)
            await store.note_route(tx, endpoint_id, None)
        return
    route = route_of(wanted, await reading.load_workloads(tx, endpoint_id))
    digest = sha256(wire.encode(route)).digest()
    if digest != wanted.route_digest:
        await tx.put("routes", endpoint_id, route)
        await store.note_route(tx, endpoint_id, digest)


async def all_routes(tx: Transaction) -> dict[str, Any]:
    """Return the whole bucket ``routes``."""
    return {
        wanted.endpoint_id: route_of(wanted, await reading.load_workloads(tx, wanted.endpoint_id))
        for wanted in await reading.all_wanted(tx)
    }


def _seeker(held: Memory, cause: Any, wanted: Wanted, now: datetime) -> Seek:
    """Return what places replicas of an endpoint one by one; what it grants is taken."""
    cause_id: str = getattr(cause, "fact_id", None) or cause.ask_id
    caused_at: datetime = getattr(cause, "occurred_at", None) or cause.asked_at

    def seek(number: int, failed_on: Sequence[str], only: str) -> Grant | Refusal:
        workload_id = derived_id("workload", caused_at, cause_id, wanted.endpoint_id, str(number))
        wish = wish_of(wanted, workload_id, failed_on, only)
        outcome = held.apply(Asked(wish=wish, at=milliseconds(now)))
        assert isinstance(outcome, Seated | Refused), "a replica does not wait in line"
        return answer_of(held.engine, wish, outcome, held.called)

    return seek


async def _start(
    tx: Transaction,
    cause: Any,
    now: datetime,
    wanted: Wanted,
    *,
    answer: Plan,
    draw: Callable[[], str],
) -> None:
    if not answer.places:
        return
    grants = [place.grant for place in answer.places]
    takes = [
        Take(one.node_id, one.memory_mib, one.cards, one.milli_each, slices=one.slices)
        for one in grants
    ]
    devices = await nodes.take(tx, wanted.site, takes)
    for place in answer.places:
        grant = place.grant
        why = (WATTS_DRAWN,) if await owners.crowded(tx, wanted.site, {grant.node_id}) else ()
        await store.place(tx, wanted, place, devices=devices, api_key=draw(), now=now, why=why)
        await tx.tell(
            WorkloadAssigned(
                **_born(cause, now, WorkloadAssigned, wanted, grant.workload_id),
                workload_id=grant.workload_id,
                endpoint_id=wanted.endpoint_id,
                node_id=grant.node_id,
                reasons=[*grant.survivors, *grant.why],
            )
        )


async def _tell(tx: Transaction, cause: Any, now: datetime, wanted: Wanted, answer: Plan) -> None:
    codes = [reason.code for reason in answer.reasons]
    if (answer.state, answer.ready) != (wanted.state, wanted.ready) or codes != [
        reason.code for reason in wanted.reasons
    ]:
        await tx.tell(
            EndpointChanged(
                **_born(cause, now, EndpointChanged, wanted, wanted.endpoint_id),
                endpoint_id=wanted.endpoint_id,
                name=wanted.name,
                state=answer.state,
                ready=answer.ready,
                reasons=list(answer.reasons),
                wanted=None if wanted.external else wanted.count,
            )
        )
    if answer.refusal is None:
        return
    refused = {reason.code for reason in answer.refusal.reasons}
    if refused & {reason.code for reason in wanted.reasons}:
        return
    await tx.tell(
        WorkloadRefused(
            **_born(cause, now, WorkloadRefused, wanted, wanted.endpoint_id),
            endpoint_id=wanted.endpoint_id,
            reasons=[*answer.refusal.reasons, *answer.refusal.survivors],
        )
    )


async def _why(tx: Transaction, before: Placed) -> list[Any]:
    server = await reading.load_server(tx, before.node_id)
    return [] if server is None else list(server.reasons)


def _born(cause: Any, now: datetime, kind: Any, wanted: Wanted, key: str) -> dict[str, Any]:
    scope = {"organization": wanted.organization, "project": wanted.project}
    return born_of(cause, now, kind, key=key, **scope)
