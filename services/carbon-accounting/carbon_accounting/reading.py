"""All of the SQL that asks read with."""

from datetime import datetime
from typing import Any

import msgspec
from mesh_contracts import wire
from mesh_contracts.metering import RatedRow
from meshkit.store import Row, Transaction

from carbon_accounting.domain.split import NON_SERVING, OPERATOR


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it is kept, settled or not."""

    row: RatedRow
    site: str
    project: str
    node_id: str | None
    jurisdiction: str | None
    settled_at: datetime | None
    energy_uj: int | None
    carbon_ug: int | None
    factor_id: str | None
    quality: str | None
    energy_source: str | None


async def load_request(tx: Transaction, request_id: str) -> Kept | None:
    """Return a request as it is kept, or nothing."""
    row = await tx.row(
        "SELECT r.line, r.site, r.project, r.node_id, r.settled_at, r.energy_uj,"
        " coalesce(r.jurisdiction, n.jurisdiction) AS jurisdiction,"
        " r.carbon_ug, r.factor_id, r.quality, r.energy_source FROM request r"
        " LEFT JOIN node n USING (node_id) WHERE request_id = $1",
        request_id,
    )
    if row is None:
        return None
    fields: dict[str, Any] = dict(row)
    return Kept(row=wire.decode(fields.pop("line").encode(), RatedRow), **fields)


async def held_of(tx: Transaction, node_id: str | None) -> str | None:
    """Return why a node's intervals are not settled, or nothing."""
    why: str | None = await tx.value(
        "SELECT held FROM interval WHERE node_id = $1 AND settled_at IS NULL AND held IS NOT NULL LIMIT 1",
        node_id,
    )
    return why


async def last_read(tx: Transaction, node_id: str | None) -> datetime | None:
    """Return when a node's meter was last read, or nothing."""
    at: datetime | None = await tx.value("SELECT measured_at FROM meter WHERE node_id = $1", node_id)
    return at


async def list_accounts(tx: Transaction, project: str | None, after: str, limit: int) -> list[Row]:
    """Return at most ``limit`` projects' sums by project id, after ``after``."""
    return await tx.rows(
        "SELECT a.account, coalesce(p.name, a.account) AS name, a.requests, a.energy_uj, a.carbon_ug,"
        " a.estimated FROM account a LEFT JOIN project p ON p.project_id = a.account"
        " WHERE a.account <> ALL($4::text[]) AND ($1::text IS NULL OR a.account = $1) AND a.account > $2"
        " ORDER BY a.account LIMIT $3",
        *(project, after, limit, [OPERATOR, NON_SERVING]),
    )


async def operator_accounts(tx: Transaction) -> dict[str, tuple[int, int]]:
    """Return the energy and the carbon that stay with the operator, by account."""
    rows = await tx.rows(
        "SELECT account, energy_uj, carbon_ug FROM account WHERE account = ANY($1::text[])",
        [OPERATOR, NON_SERVING],
    )
    return {row["account"]: (int(row["energy_uj"]), int(row["carbon_ug"])) for row in rows}
