"""All of placement's SQL that only reads."""

# ruff: noqa: S608 - statements are put together from constants of this file alone

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from mesh_contracts.node import Check
from mesh_contracts.placement import Engine, Model, Reason, Replicas, Residency, Resources, Routing
from meshkit.store import Row, Transaction

from placement.domain.fleet import MILLI_PER_GPU, Card, Held, Placed, Server, Wanted
from placement.domain.scale import Need
from placement.store import loads

PAGE_MAX = 500
"""Items of a list that are answered at one time, whatever is asked for."""
ENDED_SHOWN = 5
"""Workloads that have ended and are still shown (and counted) of one endpoint."""

WINDOWS = ("target", "up_after_ms", "down_after_ms", "sleep_after_ms")
"""Columns of an endpoint that say how it follows demand."""

_SERVER = (
    "SELECT node_id, name, site, state, since, generation, reasons, checks, jurisdiction, memory_mib,"
    " memory_taken_mib, cpus, place, assurances, idle_w, gpu_w, check_wished, check_needed, silent,"
    " (SELECT count(*) FROM workload w"
    "  WHERE w.node_id = node.node_id AND w.state NOT IN ('stopped', 'failed'))"
    " + (SELECT count(*) FROM member m WHERE m.node_id = node.node_id"
    "  AND (m.holds OR m.state NOT IN ('stopped', 'failed'))) AS workloads FROM node"
)
_WANTED = (
    "SELECT e.*, p.name AS project_name FROM endpoint e JOIN project p ON p.project_id = e.project"
)
_PLACED = "SELECT w.*, n.name AS node, n.site, n.state AS node_state FROM workload w JOIN node n USING (node_id)"


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A project placement has heard of."""

    project_id: str
    organization: str
    organization_name: str
    name: str


async def load_fleet(tx: Transaction, site: str) -> list[Server]:
    """Return the site's nodes, each with the generation it was read at, by name."""
    rows = await tx.rows(f"{_SERVER} WHERE site = $1 ORDER BY name, node_id", site)
    return await _servers(tx, rows)


async def load_server(tx: Transaction, node_id: str) -> Server | None:
    """Return one node, or nothing."""
    servers = await _servers(tx, await tx.rows(f"{_SERVER} WHERE node_id = $1", node_id))
    return servers[0] if servers else None


async def load_servers(tx: Transaction, node_ids: Sequence[str]) -> list[Server]:
    """Return nodes by their ids, by name."""
    rows = await tx.rows(f"{_SERVER} WHERE node_id = ANY ($1) ORDER BY name, node_id", list(node_ids))
    return await _servers(tx, rows)


async def find_server(tx: Transaction, site: str, name: str) -> Server | None:
    """Return the node of an id or a name (the newest where a name was used again), or nothing."""
    rows = await tx.rows(
        f"{_SERVER} WHERE site = $1 AND (node_id = $2 OR name = $2) ORDER BY node_id DESC LIMIT 1",
        *(site, name),
    )
    servers = await _servers(tx, rows)
    return servers[0] if servers else None


async def generations(tx: Transaction, node_ids: Sequence[str]) -> dict[str, int]:
    """Return how often each node has changed."""
    rows = await tx.rows(
        "SELECT node_id, generation FROM node WHERE node_id = ANY ($1)", list(node_ids)
    )
    return {row["node_id"]: row["generation"] for row in rows}


async def list_servers(tx: Transaction, site: str, after: str, limit: int) -> list[Server]:
    """Return at most ``limit`` nodes by name and id, after ``name node_id``."""
    rows = await tx.rows(
        f"{_SERVER} WHERE site = $1 AND name || ' ' || node_id > $2 ORDER BY name || ' ' || node_id LIMIT $3",
        *(site, after, limit),
    )
    return await _servers(tx, rows)


async def _servers(tx: Transaction, rows: Sequence[Row]) -> list[Server]:
    devices = await tx.rows(
        "SELECT node_id, device_id, index, card, model, memory_mib, rehearsal, taken_milli, mig, taken_slices AS slices"
        " FROM device WHERE present AND node_id = ANY($1::text[]) ORDER BY index, device_id",
        [row["node_id"] for row in rows],
    )
    cards: dict[str, list[Card]] = defaultdict(list)
    for device in devices:
        taken = device.pop("taken_milli")
        cards[device.pop("node_id")].append(Card(**device, free_milli=MILLI_PER_GPU - taken))
    return [_server(row, tuple(cards[row["node_id"]])) for row in rows]


def _server(row: Row, cards: tuple[Card, ...]) -> Server:
    fields: dict[str, Any] = dict(row)
    taken = fields.pop("memory_taken_mib")
    fields["reasons"] = tuple(loads(fields["reasons"], list[Reason]))
    fields["checks"] = tuple(loads(fields["checks"], list[Check]))
    fields["place"] = loads(fields["place"], dict[str, str])
    fields["assurances"] = tuple(loads(fields["assurances"], list[str]))
    return Server(**fields, memory_free_mib=row["memory_mib"] - taken, cards=cards)


async def load_wanted(tx: Transaction, endpoint_id: str) -> Wanted | None:
    """Return one endpoint by id, or nothing."""
    row = await tx.row(f"{_WANTED} WHERE e.endpoint_id = $1", endpoint_id)
    return None if row is None else _wanted(row)


async def find_wanted(tx: Transaction, project: str | None, name: str) -> list[Wanted]:
    """Return the endpoints of that id, or of that name in ``project`` (in any where it is ``None``).

    A stopped endpoint is only found by its id.
    """
    rows = await tx.rows(
        f"{_WANTED} WHERE (e.endpoint_id = $2 OR (e.name = $2 AND e.state <> 'stopped'))"
        " AND ($1::text IS NULL OR e.project = $1) ORDER BY e.endpoint_id LIMIT 2",
        *(project, name),
    )
    return [_wanted(row) for row in rows]


async def list_wanted(tx: Transaction, project: str | None, after: str, limit: int) -> list[Wanted]:
    """Return at most ``limit`` endpoints that have not stopped, by name and id, after ``name id``."""
    rows = await tx.rows(
        f"{_WANTED} WHERE e.state <> 'stopped' AND ($1::text IS NULL OR e.project = $1)"
        " AND e.name || ' ' || e.endpoint_id > $2 ORDER BY e.name || ' ' || e.endpoint_id LIMIT $3",
        *(project, after, limit),
    )
    return [_wanted(row) for row in rows]


async def all_wanted(tx: Transaction) -> list[Wanted]:
    """Return every endpoint that has not stopped, in the order of their making."""
    rows = await tx.rows(f"{_WANTED} WHERE e.state <> 'stopped' ORDER BY e.created_at, e.endpoint_id")
    return [_wanted(row) for row in rows]


async def count_wanted(tx: Transaction, project: str) -> int:
    """Return how many endpoints of a project have not stopped."""
    return int(
        await tx.value(
            "SELECT count(*) FROM endpoint WHERE project = $1 AND state <> 'stopped'", project
        )
    )


async def to_settle(
    tx: Transaction,
    site: str,
    also: Iterable[str],
    node_ids: Iterable[str],
    refused: Iterable[str] = (),
) -> list[Wanted]:
    """Return the endpoints to look at again, in the order of their making.

    Those named, those with a workload on ``node_ids``, those that lack replicas and are not ``refused``.
    """
    rows = await tx.rows(
        f"{_WANTED} WHERE e.site = $1 AND e.state <> 'stopped' AND (e.endpoint_id = ANY($2::text[])"
        " OR (e.missing > 0 AND e.endpoint_id <> ALL($4::text[])) OR e.endpoint_id IN (SELECT endpoint_id FROM workload"
        "  WHERE node_id = ANY($3::text[]) AND state NOT IN ('stopped', 'failed')))"
        " ORDER BY e.created_at, e.endpoint_id",
        *(site, list(also), list(node_ids), sorted(refused)),
    )
    return [_wanted(row) for row in rows]


async def due(tx: Transaction, site: str, now: Any) -> list[str]:
    """Return the endpoints whose next try may begin."""
    rows = await tx.rows(
        "SELECT endpoint_id FROM endpoint WHERE site = $1 AND retry_at <= $2", site, now
    )
    return [row["endpoint_id"] for row in rows]


async def load_workloads(tx: Transaction, endpoint_id: str) -> list[Placed]:
    """Return an endpoint's workloads: all that have not ended, the last that have; oldest first."""
    rows = await tx.rows(
        f"{_PLACED} WHERE w.endpoint_id = $1 AND (w.state NOT IN ('stopped', 'failed') OR w.workload_id IN"
        " (SELECT workload_id FROM workload WHERE endpoint_id = $1 AND state IN ('stopped', 'failed')"
        "  ORDER BY since DESC LIMIT $2)) ORDER BY w.created_at, w.workload_id",
        *(endpoint_id, ENDED_SHOWN),
    )
    return [_placed(row) for row in rows]


async def load_workload(tx: Transaction, workload_id: str) -> Placed | None:
    """Return one workload, or nothing."""
    row = await tx.row(f"{_PLACED} WHERE w.workload_id = $1", workload_id)
    return None if row is None else _placed(row)


async def workloads_of(tx: Transaction, ids: Sequence[str]) -> list[Placed]:
    """Return those of these workloads that there are."""
    if not ids:
        return []
    return [
        _placed(row) for row in await tx.rows(f"{_PLACED} WHERE w.workload_id = ANY($1)", list(ids))
    ]


async def load_running(tx: Transaction, node_id: str | None = None) -> list[Placed]:
    """Return what has not ended: on one node, or everywhere; oldest first."""
    return await running_on(tx, None if node_id is None else [node_id])


async def running_on(tx: Transaction, node_ids: Sequence[str] | None) -> list[Placed]:
    """Return what has not ended: on some nodes, or everywhere; oldest first."""
    # Two statements: one plan for both would read the whole table for a single node.
    there, order = (
        f"{_PLACED} WHERE w.state NOT IN ('stopped', 'failed')",
        "ORDER BY w.created_at, w.workload_id",
    )
    if node_ids is None:
        rows = await tx.rows(f"{there} {order}")
    else:
        rows = await tx.rows(f"{there} AND w.node_id = ANY($1::text[]) {order}", list(node_ids))
    return [_placed(row) for row in rows]


async def all_nodes(tx: Transaction) -> list[Row]:
    """Return ``node_id``, ``check_wished``, ``check_asked`` and ``address`` of every node."""
    return await tx.rows(
        "SELECT node_id, check_wished, check_asked, address FROM node ORDER BY node_id"
    )


async def nodes_of(tx: Transaction, node_ids: Sequence[str]) -> list[Row]:
    """Return the same of some nodes."""
    return await tx.rows(
        "SELECT node_id, check_wished, check_asked, address FROM node WHERE node_id = ANY($1::text[])",
        list(node_ids),
    )


async def names(tx: Transaction, site: str) -> dict[str, str]:
    """Return the names of a site's nodes by their ids."""
    rows = await tx.rows("SELECT node_id, name FROM node WHERE site = $1", site)
    return {row["node_id"]: row["name"] for row in rows}


async def find_projects(tx: Transaction, texts: Sequence[str]) -> dict[str, list[Project]]:
    """Return the projects that each text may mean: an id, a name, or ``organization/name``."""
    rows = await tx.rows(
        "WITH wanted AS (SELECT text FROM unnest($1::text[]) AS text),"
        " found AS (SELECT text, p.* FROM wanted JOIN project p ON project_id = text"
        "  UNION SELECT text, p.* FROM wanted JOIN project p ON name = text OR (name ="
        "   split_part(text, '/', 2) AND organization_name || '/' || name = text))"
        " SELECT text, project_id, organization, organization_name, name FROM found",
        list(texts),
    )
    found: dict[str, list[Project]] = {text: [] for text in texts}
    for row in rows:
        found[row.pop("text")].append(Project(**row))
    return found


def _wanted(row: Row) -> Wanted:
    fields: dict[str, Any] = dict(row)
    bounds = {name: fields.pop(name) for name in WINDOWS}
    replicas = Replicas(min=fields.pop("replicas_min"), max=fields.pop("replicas_max"), **bounds)
    fields["routing"] = loads(fields["routing"], Routing)
    fields["need"] = loads(fields["need"], Need)
    fields["model"] = loads(fields["model"], Model)
    fields["engine"] = loads(fields["engine"], Engine)
    fields["resources"] = loads(fields["resources"], Resources)
    fields["residency"] = loads(fields["residency"], Residency)
    fields["reasons"] = tuple(loads(fields["reasons"], list[Reason]))
    return Wanted(**fields, replicas=replicas)


def _placed(row: Row) -> Placed:
    fields: dict[str, Any] = dict(row)
    fields["devices"] = tuple(loads(fields["devices"], list[Held]))
    fields["reasons"] = tuple(loads(fields["reasons"], list[Reason]))
    return Placed(**fields)
