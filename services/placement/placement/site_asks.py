"""The door for the site, its power caps and the tenants' quota, one function each."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import msgspec
from mesh_contracts.ask import Principal, Problem
from mesh_contracts.fact import born_of
from mesh_contracts.placement import (
    CapChanged,
    GetSite,
    ListCaps,
    ListQuotas,
    ListSites,
    PowerCap,
    PowerCaps,
    Quota,
    QuotaChanged,
    Quotas,
    SetCap,
    SetQuota,
    Site,
    Sites,
)
from mesh_contracts.units import derived_id
from meshkit.clock import Clock
from meshkit.errors import NotHeardYet
from meshkit.store import Transaction

from placement import bounds, breaking, memory, reading, standing, work
from placement.beginning import quota_set
from placement.bounds import KeptCap, KeptQuota
from placement.domain import watts
from placement.domain.admit import TEXT_CHARS_MAX, invalid
from placement.domain.engine.wish import Capped
from placement.domain.fleet import Server
from placement.domain.wishes import milliseconds, power_domain
from placement.naming import missing, moved_on, project_of, sees_all
from placement.settle import settle


async def list_sites(
    ask: ListSites, principal: Principal, tx: Transaction, clock: Clock
) -> Sites | Problem:
    """Return the one site that this placement decides for."""
    return Sites(items=[await _site(ask.site, principal, tx, clock.now())])


async def get_site(ask: GetSite, principal: Principal, tx: Transaction, clock: Clock) -> Site:
    """Return the site: to tenants what it offers, to operators what it holds and draws."""
    return await _site(ask.site, principal, tx, clock.now())


async def set_cap(
    ask: SetCap, principal: Principal, tx: Transaction, clock: Clock
) -> PowerCap | Problem:
    """Have a part of the site draw at most so many watts; what is placed from now on keeps to it."""
    del principal
    power, part = (await memory.hold(tx, ask.site)).engine.power, power_domain(ask.level, ask.domain)
    plan = power.planned_of(ask.level, part)
    before = await bounds.cap_of(tx, ask.site, ask.level, ask.domain)
    if before is None and plan is None:
        detail = (
            f"no server stands in {ask.level} {ask.domain!r}: GET /api/v1/nodes shows where each does"
        )
        return invalid("domain", detail, "domain_not_found")
    fault = moved_on("cap", before.generation if before else 0, ask.generation)
    if fault is not None:
        return fault
    now = clock.now()
    if before is not None and before.watts == ask.watts:
        return _cap(before, plan or 0)
    cap = KeptCap(
        cap_id=before.cap_id if before else derived_id("cap", ask.asked_at, ask.ask_id),
        site=ask.site,
        level=ask.level,
        domain=ask.domain,
        watts=ask.watts,
        since=now,
        generation=before.generation + 1 if before else 1,
    )
    await bounds.keep_cap(tx, cap)
    born = born_of(ask, now, CapChanged, key=cap.cap_id)
    await tx.tell(
        CapChanged(
            **born,
            cap_id=cap.cap_id,
            level=cap.level,
            domain=cap.domain,
            watts=cap.watts,
            planned_w=plan or 0,
        )
    )
    given = Capped(level=cap.level, domain=part, watts=cap.watts, sheds=True)
    curbed = await work.give(tx, ask, now, given)
    # Replicas do not wait in line: they are looked at anew, those that have watts now, too.
    await settle(tx, ask, now, endpoints=curbed)
    return _cap(cap, power.planned_of(cap.level, part) or 0)


async def list_caps(ask: ListCaps, principal: Principal, tx: Transaction, clock: Clock) -> PowerCaps:
    """Return the site's power caps by level and domain, with what each part draws by plan."""
    del principal, clock
    limit = max(1, min(ask.page.limit, reading.PAGE_MAX))
    found = await bounds.caps(tx, ask.site, ask.page.cursor or "", limit + 1)
    plan = watts.by_domain(await reading.load_fleet(tx, ask.site)) if found else Counter()
    shown = found[:limit]
    return PowerCaps(
        items=[_cap(cap, plan[cap.level, cap.domain]) for cap in shown],
        next=f"{shown[-1].level} {shown[-1].domain}" if len(found) > limit else None,
    )


async def set_quota(
    ask: SetQuota, principal: Principal, tx: Transaction, clock: Clock
) -> Quota | Problem:
    """Have a scope have this share of the site's GPUs, instead of the one it has."""
    fault = _bad_quota(ask)
    if fault is not None:
        return fault
    meant = await _scope(ask, principal, tx)
    if isinstance(meant, Problem):
        return meant
    organization, scope_id = meant
    await memory.hold(tx, ask.site)
    before = await bounds.quota_of(tx, ask.site, ask.scope_kind, scope_id)
    fault = moved_on("quota", before.generation if before else 0, ask.generation)
    if fault is not None:
        return fault
    quota = KeptQuota(
        quota_id=before.quota_id if before else derived_id("quota", ask.asked_at, ask.ask_id),
        site=ask.site,
        scope_kind=ask.scope_kind,
        scope_id=scope_id,
        organization=organization,
        gpus=ask.gpus,
        nvlink_domains=ask.nvlink_domains,
        weight=ask.weight,
        gpus_max=ask.gpus_max,
        generation=before.generation if before else 1,
    )
    if quota != before:
        if before is not None:
            quota = msgspec.structs.replace(quota, generation=before.generation + 1)
        try:
            await _keep_quota(tx, ask, quota, clock)
        except ValueError as fault:
            return invalid("gpus", str(fault), "quota_not_covered")
    return bounds.shown(quota, await bounds.used_milli(tx, ask.site))


async def list_quotas(ask: ListQuotas, principal: Principal, tx: Transaction, clock: Clock) -> Quotas:
    """Return the quotas by scope, of what the principal sees, with what is in use."""
    del clock
    limit = max(1, min(ask.page.limit, reading.PAGE_MAX))
    project = None if sees_all(principal) else principal.project or ""
    found = await bounds.quotas(tx, ask.site, project, ask.page.cursor or "", limit + 1)
    used = await bounds.used_milli(tx, ask.site) if found else {}
    shown = found[:limit]
    return Quotas(
        items=[bounds.shown(quota, used) for quota in shown],
        next=shown[-1].scope_id if len(found) > limit else None,
    )


async def _keep_quota(tx: Transaction, ask: SetQuota, quota: KeptQuota, clock: Clock) -> None:
    now = clock.now()
    given = quota_set(quota, milliseconds(now))
    # Only asked: an input that is refused costs a rollback, which everybody waits for.
    (await memory.hold(tx, ask.site)).engine.turns.check(given)
    await bounds.keep_quota(tx, quota)
    project = quota.scope_id if quota.scope_kind == "project" else None
    born = born_of(
        ask, now, QuotaChanged, key=quota.quota_id, organization=quota.organization, project=project
    )
    await tx.tell(
        QuotaChanged(
            **born,
            quota_id=quota.quota_id,
            scope_kind=quota.scope_kind,
            scope_id=quota.scope_id,
            gpus=quota.gpus,
            weight=quota.weight,
            nvlink_domains=quota.nvlink_domains,
            gpus_max=quota.gpus_max,
        )
    )
    await work.give(tx, ask, now, given)


async def _scope(ask: SetQuota, principal: Principal, tx: Transaction) -> tuple[str, str] | Problem:
    """Return the organization and the scope that are meant."""
    if ask.scope_kind == "project":
        project = await project_of(ask.scope, principal, tx)
        if isinstance(project, Problem):
            return project
        return project.organization, project.project_id
    found = await bounds.organizations(tx, ask.scope)
    if not found:
        todo = "give its id or its name; placement knows it once it has a project"
        raise NotHeardYet(missing("organization", ask.scope, todo))
    if len(found) > 1:
        detail = f"{len(found)} organizations are called {ask.scope!r}: give the id"
        return invalid("scope", detail, "organization_ambiguous")
    return found[0], found[0]


def _bad_quota(ask: SetQuota) -> Problem | None:
    if ask.gpus_max is not None and ask.gpus_max < ask.gpus:
        return invalid(
            "gpus_max", f"gpus_max must not be below gpus ({ask.gpus}), which are guaranteed"
        )
    if any(len(model) > TEXT_CHARS_MAX for model in ask.nvlink_domains):
        return invalid("nvlink_domains", f"a model has at most {TEXT_CHARS_MAX} characters")
    return None


def _cap(cap: KeptCap, plan: int) -> PowerCap:
    return PowerCap(
        id=cap.cap_id,
        site=cap.site,
        level=cap.level,
        domain=cap.domain,
        watts=cap.watts,
        planned_w=plan,
        room_w=None if cap.watts is None else cap.watts - plan,
        generation=cap.generation,
        since=cap.since,
        reasons=list(watts.over(cap.watts, plan)),
    )


async def _site(name: str, principal: Principal, tx: Transaction, now: datetime) -> Site:
    fleet = await reading.load_fleet(tx, name)
    offered = Site(
        id=name,
        jurisdictions=sorted({one.jurisdiction for one in fleet if one.jurisdiction}),
        assurances=sorted({assurance for one in fleet for assurance in one.assurances}),
        gpu_models=sorted({card.model for one in fleet for card in one.cards}),
    )
    if not sees_all(principal):
        return offered
    cap = await bounds.cap_of(tx, name, watts.SITE, name)
    tally = await standing.tally(tx, name)
    return msgspec.structs.replace(
        offered,
        nodes=_of("nodes", tally),
        leases=_of("leases", tally),
        jobs=_of("jobs", tally),
        domains=_domains(fleet),
        gpus=sum(len(one.cards) for one in fleet),
        gpu_milli_free=sum(one.free_milli for one in fleet),
        planned_w=sum(watts.planned(one) for one in fleet),
        cap_w=None if cap is None else cap.watts,
        breaker=await breaking.state(tx, name, now),
    )


def _of(what: str, tally: dict[tuple[str, str], int]) -> dict[str, int]:
    return {state: many for (kind, state), many in sorted(tally.items()) if kind == what}


def _domains(fleet: Sequence[Server]) -> dict[str, int]:
    return dict(
        sorted(
            Counter(level for level, _ in {part for one in fleet for part in one.place.items()}).items()
        )
    )
