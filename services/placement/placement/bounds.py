"""The SQL of what operators set: quota and power caps; and of what a site holds."""

from datetime import datetime
from typing import Any

import msgspec
from mesh_contracts.placement import PowerDomain, Quota, QuotaScope
from meshkit.store import Row, Transaction

from placement.store import dumps, loads


class KeptQuota(msgspec.Struct, frozen=True, kw_only=True):
    """What a scope is promised at a site; ``organization`` is its own, or the project's."""

    quota_id: str
    site: str
    scope_kind: QuotaScope
    scope_id: str
    organization: str
    gpus: int
    weight: int
    nvlink_domains: dict[str, int] = {}
    gpus_max: int | None = None
    generation: int = 1


class KeptCap(msgspec.Struct, frozen=True, kw_only=True):
    """What a part of a site may draw; ``None`` where the cap was lifted."""

    cap_id: str
    site: str
    level: PowerDomain
    domain: str
    watts: int | None
    since: datetime
    generation: int = 1


async def quota_of(tx: Transaction, site: str, kind: QuotaScope, scope: str) -> KeptQuota | None:
    """Return a scope's quota, or nothing."""
    row = await tx.row(
        "SELECT * FROM quota WHERE site = $1 AND scope_kind = $2 AND scope_id = $3", site, kind, scope
    )
    return None if row is None else _quota(row)


async def keep_quota(tx: Transaction, quota: KeptQuota) -> None:
    """Have a scope have this quota, instead of the one it has."""
    await tx.change(
        "INSERT INTO quota (quota_id, site, scope_kind, scope_id, organization, gpus, nvlink_domains,"
        " weight, gpus_max, generation) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
        " ON CONFLICT (site, scope_kind, scope_id) DO UPDATE SET gpus = $6, nvlink_domains = $7,"
        " weight = $8, gpus_max = $9, generation = $10",
        *(quota.quota_id, quota.site, quota.scope_kind, quota.scope_id, quota.organization, quota.gpus),
        *(dumps(quota.nvlink_domains), quota.weight, quota.gpus_max, quota.generation),
    )


async def quotas(
    tx: Transaction, site: str, project: str | None = None, after: str = "", limit: int | None = None
) -> list[KeptQuota]:
    """Return the quotas by scope; those that ``project`` is bounded by, where one is named."""
    rows = await tx.rows(
        "SELECT q.* FROM quota q WHERE q.site = $1 AND ($2::text IS NULL OR q.scope_id = $2 OR q.scope_id ="
        " (SELECT organization FROM project WHERE project_id = $2)) AND q.scope_id > $3"
        " ORDER BY q.scope_id LIMIT $4",
        *(site, project, after, limit),
    )
    return [_quota(row) for row in rows]


async def used_milli(tx: Transaction, site: str) -> dict[str, int]:
    """Return how many thousandths of GPUs each project and each organization holds at a site."""
    rows = await tx.rows(
        "WITH held AS ("
        "  SELECT e.project, w.devices, e.resources::jsonb ->> 'mig' AS mig FROM workload w JOIN endpoint e USING (endpoint_id)"
        "   JOIN node n USING (node_id) WHERE n.site = $1 AND w.state NOT IN ('stopped', 'failed')"
        "  UNION ALL SELECT coalesce(j.project, l.project), m.devices,"
        "   j.wished::jsonb -> 'resources' ->> 'mig' FROM member m"
        "   JOIN node n USING (node_id) LEFT JOIN job j USING (job_id) LEFT JOIN lease l USING (lease_id)"
        "   WHERE n.site = $1 AND m.holds)"
        " SELECT h.project, p.organization, sum(milli)::bigint AS milli FROM held h"
        "  JOIN project p ON p.project_id = h.project,"
        # An instance counts by its compute slices, as it does for who decides (``engine.fair``).
        "  LATERAL (SELECT coalesce(sum(CASE WHEN h.mig IS NULL THEN (one ->> 1)::bigint"
        "            ELSE ceil(split_part(h.mig, 'g', 1)::integer * 1000 / 7.0)::bigint END), 0) AS milli"
        "           FROM jsonb_array_elements(h.devices::jsonb) AS one) AS taken"
        " GROUP BY h.project, p.organization",
        site,
    )
    used: dict[str, int] = {}
    for row in rows:
        for scope in (row["project"], row["organization"]):
            used[scope] = used.get(scope, 0) + row["milli"]
    return used


async def organizations(tx: Transaction, text: str) -> list[str]:
    """Return the organizations that ``text`` may mean: an id, or a name."""
    rows = await tx.rows(
        "SELECT DISTINCT organization FROM project WHERE organization = $1 OR organization_name = $1"
        " ORDER BY organization",
        text,
    )
    return [row["organization"] for row in rows]


async def cap_of(tx: Transaction, site: str, level: str, domain: str) -> KeptCap | None:
    """Return what is kept of a part of a site, or nothing."""
    row = await tx.row(
        "SELECT * FROM cap WHERE site = $1 AND level = $2 AND domain = $3", site, level, domain
    )
    return None if row is None else KeptCap(**row)


async def keep_cap(tx: Transaction, cap: KeptCap) -> None:
    """Have a part of a site have this cap, instead of the one it has."""
    await tx.change(
        "INSERT INTO cap (cap_id, site, level, domain, watts, generation, since)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)"
        " ON CONFLICT (site, level, domain) DO UPDATE SET watts = $5, generation = $6, since = $7",
        *(cap.cap_id, cap.site, cap.level, cap.domain, cap.watts, cap.generation, cap.since),
    )


async def caps(tx: Transaction, site: str, after: str = "", limit: int | None = None) -> list[KeptCap]:
    """Return a site's caps by level and domain, after ``level domain``; lifted ones are left out."""
    rows = await tx.rows(
        "SELECT * FROM cap WHERE site = $1 AND watts IS NOT NULL AND level || ' ' || domain > $2"
        " ORDER BY level || ' ' || domain LIMIT $3",
        *(site, after, limit),
    )
    return [KeptCap(**row) for row in rows]


def shown(quota: KeptQuota, used: dict[str, int]) -> Quota:
    """Return a quota as it is shown."""
    return Quota(
        id=quota.quota_id,
        scope_kind=quota.scope_kind,
        scope_id=quota.scope_id,
        gpus=quota.gpus,
        nvlink_domains=quota.nvlink_domains,
        weight=quota.weight,
        gpus_max=quota.gpus_max,
        used_gpu_milli=used.get(quota.scope_id, 0),
        generation=quota.generation,
    )


def _quota(row: Row) -> KeptQuota:
    fields: dict[str, Any] = dict(row)
    fields["nvlink_domains"] = loads(fields["nvlink_domains"], dict[str, int])
    return KeptQuota(**fields)
