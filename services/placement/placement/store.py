"""All of placement's SQL for facts and wishes; what others read whole is in ``reading``."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from mesh_contracts import wire
from mesh_contracts.identity import ProjectAdmitted
from mesh_contracts.node import Check, Device, NodeJoined
from mesh_contracts.placement import Reason, Replicas, Routing
from meshkit.errors import StaleSnapshot
from meshkit.store import Transaction

from placement.domain.fleet import ENDED, Placed, Server, Wanted
from placement.domain.health import Turn
from placement.domain.plan import Place, Plan
from placement.domain.scale import Scaled
from placement.sums import Devices, give_back, held_of

T = TypeVar("T")
ENDED_KEPT_S = 7 * 24 * 3600


def dumps(value: Any) -> str:
    """Return a column's text of ``value``."""
    return wire.encode(value).decode()


def loads(text: str, kind: type[T]) -> T:
    """Return what a column's text holds."""
    return wire.decode(text.encode(), kind)


async def keep_project(tx: Transaction, fact: ProjectAdmitted) -> None:
    """Know a project by its id and names."""
    await tx.change(
        "INSERT INTO project (project_id, organization, organization_name, name) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (project_id) DO UPDATE SET name = $4, organization_name = $3",
        *(fact.key, fact.organization or "", fact.organization_name, fact.name),
    )


async def keep_node(tx: Transaction, node_id: str, name: str, site: str, now: datetime) -> None:
    """Know a node; what is known of it stays."""
    await tx.change(
        "INSERT INTO node (node_id, name, site, state, since) VALUES ($1, $2, $3, 'enrolled', $4)"
        " ON CONFLICT (node_id) DO UPDATE SET name = $2",
        *(node_id, name, site, now),
    )


async def keep_hardware(tx: Transaction, fact: NodeJoined) -> None:
    """Know what a node consists of now. A device that is gone stays, absent, until nothing holds it."""
    await tx.change(
        "UPDATE node SET name = $2, jurisdiction = $3, memory_mib = $4, address = $5, cpus = $6, place = $7,"
        " assurances = $8, idle_w = $9, gpu_w = $10 WHERE node_id = $1",
        *(fact.node_id, fact.name, fact.jurisdiction, fact.memory_mib, fact.address, fact.cpus),
        *(dumps(fact.place), dumps(fact.assurances), fact.idle_w, fact.gpu_w),
    )
    await tx.change(
        "UPDATE device SET present = false WHERE node_id = $1 AND device_id <> ALL ($2)",
        *(fact.node_id, [device.device_id for device in fact.devices]),
    )
    await tx.change(
        "DELETE FROM device WHERE node_id = $1 AND NOT present AND taken_milli = 0 AND taken_slices = 0",
        fact.node_id,
    )
    # A new device takes the first position that is nobody's, also not that of one that is gone but still held.
    await tx.change_many(
        "INSERT INTO device (node_id, device_id, index, model, memory_mib, rehearsal, mig, card)"
        " SELECT $1, $2, $3, $4, $5, $6, $7, (SELECT min(free.card) FROM generate_series(0,"
        "   (SELECT count(*) FROM device WHERE node_id = $1)) AS free (card)"
        "  WHERE NOT EXISTS (SELECT FROM device d WHERE d.node_id = $1 AND d.card = free.card))"
        " ON CONFLICT (node_id, device_id) DO UPDATE"
        " SET index = $3, model = $4, memory_mib = $5, rehearsal = $6, mig = $7, present = true",
        [
            (fact.node_id, *_device(device))
            for device in sorted(fact.devices, key=lambda one: (one.index, one.device_id))
        ],
    )


def _device(device: Device) -> tuple[Any, ...]:
    about = (device.model, device.memory_mib, device.rehearsal, device.mig)
    return (device.device_id, device.index, *about)


async def turn(tx: Transaction, server: Server, to: Turn, now: datetime) -> None:
    """Make a node what it turns into. Raises StaleSnapshot when it moved since it was read."""
    changed = await tx.change(
        "UPDATE node SET state = $3, reasons = $4, check_wished = $5, check_needed = $6,"
        " since = CASE WHEN state = $3 THEN since ELSE $7 END, generation = generation + 1,"
        " drain_until = CASE WHEN $3 = 'draining' THEN drain_until END"
        " WHERE node_id = $1 AND generation = $2",
        *(server.node_id, server.generation, to.state, dumps(to.reasons)),
        *(to.check_wished, to.check_needed, now),
    )
    if changed == 0:
        raise StaleSnapshot(server.node_id)


async def drain_by(tx: Transaction, node_id: str, until: datetime) -> None:
    """Note until when jobs that cannot be preempted may go on, on a node that is being emptied."""
    await tx.change("UPDATE node SET drain_until = $2 WHERE node_id = $1", node_id, until)


async def note_asked(tx: Transaction, node_id: str, check: int) -> None:
    """Note of a node's check of that number that somebody asked for it."""
    await tx.change("UPDATE node SET check_asked = $2 WHERE node_id = $1", node_id, check)


async def note_silent(tx: Transaction, node_ids: Sequence[str], *, silent: bool) -> None:
    """Note of nodes whether they are silent with too many others to be given up."""
    await tx.change("UPDATE node SET silent = $2 WHERE node_id = ANY ($1)", list(node_ids), silent)


async def keep_checks(tx: Transaction, node_id: str, checks: Sequence[Check]) -> None:
    """Keep a node's last checks."""
    await tx.change("UPDATE node SET checks = $2 WHERE node_id = $1", node_id, dumps(list(checks)))


async def keep_endpoint(tx: Transaction, wanted: Wanted) -> None:
    """Write a new endpoint down."""
    await tx.change(
        "INSERT INTO endpoint (endpoint_id, organization, project, name, site, model, engine, resources,"
        " residency, routing, replicas_min, replicas_max, target, up_after_ms, down_after_ms,"
        " sleep_after_ms, wanted, need, look_at, state, created_at, since) VALUES ($1, $2, $3, $4, $5, $6,"
        " $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $21)",
        *(wanted.endpoint_id, wanted.organization, wanted.project, wanted.name, wanted.site),
        *(dumps(wanted.model), dumps(wanted.engine), dumps(wanted.resources), dumps(wanted.residency)),
        *(dumps(wanted.routing), *_bounds(wanted.replicas), wanted.wanted, dumps(wanted.need)),
        *(wanted.look_at, wanted.state, wanted.created_at),
    )


async def wish(
    tx: Transaction,
    wanted: Wanted,
    *,
    replicas: Replicas | None = None,
    routing: Routing | None = None,
    deleted: bool | None = None,
) -> None:
    """Note another wish for an endpoint. Raises StaleSnapshot when it moved since it was read."""
    replicas = replicas or wanted.replicas
    changed = await tx.change(
        "UPDATE endpoint SET replicas_min = $3, replicas_max = $4, target = $5, up_after_ms = $6,"
        " down_after_ms = $7, sleep_after_ms = $8, routing = $9, deleted = $10,"
        " wanted = least(greatest(wanted, $3), $4), generation = generation + 1"
        " WHERE endpoint_id = $1 AND generation = $2",
        *(wanted.endpoint_id, wanted.generation, *_bounds(replicas), dumps(routing or wanted.routing)),
        wanted.deleted if deleted is None else deleted,
    )
    if changed == 0:
        raise StaleSnapshot(wanted.endpoint_id)


def _bounds(replicas: Replicas) -> tuple[int, ...]:
    times = (replicas.up_after_ms, replicas.down_after_ms, replicas.sleep_after_ms)
    return (replicas.min, replicas.max, replicas.target, *times)


async def keep_scale(tx: Transaction, endpoint_id: str, scaled: Scaled) -> None:
    """Note how many replicas demand asks for, and what is remembered of it."""
    await tx.change(
        "UPDATE endpoint SET wanted = $2, need = $3, look_at = $4 WHERE endpoint_id = $1",
        *(endpoint_id, scaled.wanted, dumps(scaled.need), scaled.look_at),
    )


async def note_failure(tx: Transaction, endpoint_id: str, failures: int, retry_at: datetime) -> None:
    """Note failures in a row, and when the next try may begin."""
    await tx.change(
        "UPDATE endpoint SET failures = $2, retry_at = $3 WHERE endpoint_id = $1",
        *(endpoint_id, failures, retry_at),
    )


async def place(
    tx: Transaction,
    wanted: Wanted,
    place: Place,
    *,
    devices: Devices,
    api_key: str,
    now: datetime,
    why: Sequence[Reason] = (),
) -> None:
    """Write a replica down; what it takes is taken already. ``why`` it is not begun yet, if so."""
    grant = place.grant
    held = held_of(grant.node_id, grant.seat, devices)
    await tx.change(
        "INSERT INTO workload (workload_id, endpoint_id, node_id, state, since, created_at, devices,"
        " memory_mib, api_key, replaces, reasons) VALUES ($1, $2, $3, 'assigned', $4, $4, $5, $6, $7, $8, $9)",
        *(grant.workload_id, wanted.endpoint_id, grant.node_id, now, dumps(held), grant.memory_mib),
        *(api_key, place.replaces.workload_id if place.replaces else None, dumps(list(why))),
    )


async def move(
    tx: Transaction, item: Placed, state: str, now: datetime, reasons: Sequence[Reason] = ()
) -> None:
    """Put a workload in another state; once it has ended what it held is free, and its key forgotten."""
    await tx.change(
        "UPDATE workload SET since = CASE WHEN state = $2 THEN since ELSE $3 END, state = $2, reasons = $4,"
        " drains_until = NULL, api_key = CASE WHEN $5 THEN '' ELSE api_key END WHERE workload_id = $1",
        *(item.workload_id, state, now, dumps(list(reasons)), state in ENDED),
    )
    if state not in ENDED:
        return
    await tx.change(
        "UPDATE node SET memory_taken_mib = memory_taken_mib - $2, generation = generation + 1"
        " WHERE node_id = $1",
        *(item.node_id, item.memory_mib),
    )
    await give_back(tx, [(item.node_id, held) for held in item.devices])


async def drain(tx: Transaction, item: Placed, now: datetime, until: datetime) -> None:
    """Let a workload finish what it has, until then at most; its node goes on running it."""
    await tx.change(
        "UPDATE workload SET state = 'stopping', since = $2, drains_until = $3 WHERE workload_id = $1",
        *(item.workload_id, now, until),
    )


async def answer_at(tx: Transaction, item: Placed, scheme: str, address: str, now: datetime) -> None:
    """Note that a workload answers, and where."""
    await tx.change(
        "UPDATE workload SET since = CASE WHEN state = 'ready' THEN since ELSE $4 END, state = 'ready',"
        " reasons = '[]', scheme = $2, address = $3, ready_at = coalesce(ready_at, $4) WHERE workload_id = $1",
        *(item.workload_id, scheme, address, now),
    )


async def settle(tx: Transaction, wanted: Wanted, plan: Plan, now: datetime) -> None:
    """Note what an endpoint is after its plan."""
    await tx.change(
        "UPDATE endpoint SET state = $2, ready = $3, missing = $4, reasons = $5, retry_at = $6,"
        " failures = $8, since = CASE WHEN state = $2 THEN since ELSE $7 END WHERE endpoint_id = $1",
        *(wanted.endpoint_id, plan.state, plan.ready, plan.missing, dumps(plan.reasons)),
        *(plan.retry_at, now, plan.failures),
    )


async def note_route(tx: Transaction, endpoint_id: str, digest: bytes | None) -> None:
    """Note which route was put last."""
    await tx.change("UPDATE endpoint SET route_digest = $2 WHERE endpoint_id = $1", endpoint_id, digest)


async def forget_ended(tx: Transaction, before: datetime, batch: int) -> int:
    """Forget at most ``batch`` workloads that ended before; return how many."""
    return await tx.change(
        "DELETE FROM workload WHERE workload_id IN (SELECT workload_id FROM workload"
        " WHERE state IN ('stopped', 'failed') AND since < $1 LIMIT $2)",
        *(before, batch),
    )


async def forget_stopped(tx: Transaction, before: datetime, batch: int) -> int:
    """Forget at most ``batch`` endpoints that stopped before; return how many."""
    return await tx.change(
        "DELETE FROM endpoint WHERE endpoint_id IN (SELECT endpoint_id FROM endpoint e"
        " WHERE state = 'stopped' AND since < $1 AND route_digest IS NULL"
        " AND NOT EXISTS (SELECT FROM workload w WHERE w.endpoint_id = e.endpoint_id) LIMIT $2)",
        *(before, batch),
    )
