"""What the log of a site that has none begins with: all that its tables say is there."""

from meshkit.store import Transaction

from placement import bounds, jobstore, leasestore, members, reading, windows
from placement.domain.built import built_of, found, found_members
from placement.domain.engine.notice import QuotaSet
from placement.domain.engine.wish import Capped, Input, NodePut, Wish
from placement.domain.fleet import MILLI_PER_GPU
from placement.domain.maintenance import given_of
from placement.domain.members import Member
from placement.domain.wishes import milliseconds, power_domain, wish_of_job, wish_of_lease


async def inputs(tx: Transaction, site: str) -> list[Input]:
    """Return what makes an engine know a site: its nodes, their caps, who is promised what, who sits where, what is worked on."""
    fleet = await reading.load_fleet(tx, site)
    servers = {server.node_id: server for server in fleet}
    given: list[Input] = [one for node_id in sorted(servers) for one in built_of(servers[node_id])]
    for cap in await bounds.caps(tx, site):
        domain = power_domain(cap.level, cap.domain)
        given.append(Capped(level=cap.level, domain=domain, watts=cap.watts))
    # An organisation's before its projects': these come out of it.
    quotas = sorted(await bounds.quotas(tx, site), key=lambda one: one.scope_kind)
    given += [quota_set(quota, milliseconds(tx.now)) for quota in quotas]
    wanted = {one.endpoint_id: one for one in await reading.all_wanted(tx)}
    given += [
        found(wanted[item.endpoint_id], item, servers[item.node_id])
        for item in await reading.load_running(tx)
        if item.node_id in servers
    ]
    by_owner: dict[str, list[Member]] = {}
    for member in await members.on_node(tx):
        if member.holds and member.node_id in servers:
            by_owner.setdefault(member.owner_id, []).append(member)
    wishes = {job.job_id: wish_of_job(job) for job in await jobstore.seated(tx, site)}
    specs = [one.spec for one in given if isinstance(one, NodePut)]
    for lease in await leasestore.seated(tx, site):
        wish = wish_of_lease(lease, specs)
        if isinstance(wish, Wish):
            wishes[lease.lease_id] = wish
    given += [
        found_members(wish, by_owner[owner], servers)
        for owner, wish in wishes.items()
        if owner in by_owner
    ]
    # Last: who sits on a window's nodes was there before it.
    still = [given_of(window, tx.now) for window in await windows.still(tx, site)]
    return given + [one for one in still if one.end is None or one.end > one.at]


def quota_set(quota: bounds.KeptQuota, at: int) -> QuotaSet:
    """Return a quota as the engine is given it."""
    return QuotaSet(
        organization=quota.organization,
        project=quota.scope_id if quota.scope_kind == "project" else "",
        gpu_milli=quota.gpus * MILLI_PER_GPU,
        domains=quota.nvlink_domains,
        limit_milli=None if quota.gpus_max is None else quota.gpus_max * MILLI_PER_GPU,
        weight=quota.weight,
        at=at,
    )
