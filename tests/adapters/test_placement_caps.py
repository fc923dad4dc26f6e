"""Power caps, quota, the site, and what would be, against a real nats-server and a real Postgres."""

from typing import Any

import pytest
from mesh_contracts.ask import Page, Principal, Problem
from mesh_contracts.placement import (
    AddNodes,
    CapChanged,
    CapDomain,
    ExplainPlacement,
    GetNode,
    GetSite,
    ListCaps,
    ListQuotas,
    ListSites,
    LoseDomain,
    PlanMoves,
    QuotaChanged,
    Resources,
    SetCap,
    SetQuota,
)
from mesh_contracts.units import DEFAULT_SITE

from tests.adapters.fleet import ADMIN, ORGANIZATION, PROJECT, TENANT, Site, eventually, node_is
from tests.adapters.holdings import cancel, job_is, job_of, servers, submit, told

pytestmark = pytest.mark.slow


async def cap(site: Site, watts: int | None, who: Principal = ADMIN, **fields: Any) -> Any:
    return await site.ask(SetCap, who, **{"level": "rack", "domain": "r1", "watts": watts, **fields})


async def quota(site: Site, who: Principal = ADMIN, **fields: Any) -> Any:
    return await site.ask(SetQuota, who, **{"scope_kind": "project", "scope": "acme/demo", **fields})


async def explain(site: Site, who: Principal = ADMIN, **fields: Any) -> Any:
    return await site.ask(ExplainPlacement, who, **fields)


async def test_a_cap_binds_what_is_placed_from_then_on_and_lifted_lets_it_begin(site: Site) -> None:
    await servers(site, 2)
    set_ = await cap(site, 350)
    assert (set_.watts, set_.planned_w, set_.room_w, set_.generation) == (350, 200, 150, 1)
    made = await submit(site)
    assert (made.state, made.reasons[0].code) == ("queued", "power_capped")
    small = await submit(site, "small", members=1, resources=Resources(gpus=3))
    assert small.state == "admitted", "three GPUs of 50 W fill it to the watt"
    (shown,) = (await site.ask(ListCaps)).items
    assert (shown.planned_w, shown.room_w, shown.reasons) == (350, 0, [])
    more = await submit(site, "more", members=1, resources=Resources(gpus=1))
    assert more.state == "queued"
    lifted = await cap(site, None)
    assert (lifted.watts, lifted.room_w, lifted.generation) == (None, None, 2)
    assert (await job_is(site, "admitted", "more")).attempt == 1
    assert (await site.ask(ListCaps)).items == []
    facts = await told(site, CapChanged, 2)
    assert [(fact.level, fact.domain, fact.watts) for fact in facts] == [
        ("rack", "r1", 350),
        ("rack", "r1", None),
    ]


async def test_a_cap_below_the_plan_is_kept_and_says_by_how_much_it_is_passed(site: Site) -> None:
    await servers(site, 1)
    low = await cap(site, 40, level="site", domain=DEFAULT_SITE)
    assert (low.room_w, low.reasons[0].code, low.reasons[0].count) == (-60, "above_cap", 60)
    assert (await submit(site, members=1)).reasons[0].code == "power_capped"


async def test_a_cap_is_changed_only_at_the_generation_that_was_read_and_by_operators(
    site: Site,
) -> None:
    await servers(site, 1)
    first = await cap(site, 1_000)
    assert (await cap(site, 1_000)).generation == first.generation, "the same again changes nothing"
    stale = await cap(site, 900, generation=first.generation + 1)
    assert (stale.status, stale.code) == (412, "generation_mismatch")
    assert (await cap(site, 900, generation=first.generation)).watts == 900
    unknown = await cap(site, 900, domain="r2")
    assert (unknown.status, unknown.code, unknown.param) == (422, "domain_not_found", "domain")
    for answer in (await cap(site, 900, TENANT), await site.ask(ListCaps, TENANT)):
        assert (answer.status, answer.code) == (403, "forbidden")


async def test_caps_are_listed_page_by_page(site: Site) -> None:
    await servers(site, 1)
    for level, domain in (("rack", "r1"), ("pdu", "p1"), ("site", DEFAULT_SITE)):
        await cap(site, 5_000, level=level, domain=domain)
    page = await site.ask(ListCaps, page=Page(limit=2))
    rest = await site.ask(ListCaps, page=Page(limit=2, cursor=page.next))
    listed = [[one.level for one in items] for items in (page.items, rest.items)]
    assert listed == [["pdu", "rack"], ["site"]]


async def test_a_project_at_its_bound_waits_until_it_is_raised(site: Site) -> None:
    await servers(site, 2)
    await quota(site, scope_kind="organization", scope="acme", gpus=4)
    made = await quota(site, gpus=2, gpus_max=4)
    assert (made.scope_id, made.gpus, made.gpus_max, made.used_gpu_milli) == (PROJECT, 2, 4, 0)
    assert (await submit(site, "first", members=1)).state == "admitted"
    second = await submit(site, "second", members=1)
    (reason,) = second.reasons
    assert (second.state, reason.code) == ("queued", "quota_limit")
    assert "wait until others of yours end" in str(reason.unblock)
    never = await submit(site, "never", members=2)
    assert "raise the quota" in str(never.reasons[0].unblock), "it is more than the bound"
    await cancel(site, "never")
    raised = await quota(site, gpus=2, gpus_max=8)
    assert (raised.generation, raised.used_gpu_milli) == (2, 8_000)
    assert (await job_is(site, "admitted", "second")).attempt == 1
    facts = await told(site, QuotaChanged, 3)
    assert [(fact.gpus_max, fact.project) for fact in facts] == [
        (None, None),
        (4, PROJECT),
        (8, PROJECT),
    ]


async def test_an_organization_s_bound_is_its_projects_together(site: Site) -> None:
    await servers(site, 2)
    whole = await quota(site, scope_kind="organization", scope="acme", gpus_max=4)
    assert whole.scope_id == ORGANIZATION
    assert (await submit(site, "a", members=1)).state == "admitted"
    other = await submit(site, "b", ADMIN, project="acme/other", members=1)
    assert (other.state, other.reasons[0].code) == ("queued", "quota_limit")


async def test_a_project_sees_its_own_quota_and_its_organization_s_and_sets_none(site: Site) -> None:
    await servers(site, 1)
    early = await quota(site, gpus=1)
    assert (early.status, early.code) == (422, "quota_not_covered")
    await quota(site, scope_kind="organization", scope=ORGANIZATION, gpus=3)
    await quota(site, gpus=1)
    await quota(site, scope="acme/other", gpus=2)
    mine = (await site.ask(ListQuotas, TENANT)).items
    assert sorted(one.gpus for one in mine) == [1, 3]
    assert len((await site.ask(ListQuotas)).items) == 3
    denied = await quota(site, TENANT, gpus=9)
    assert (denied.status, denied.code) == (403, "forbidden")
    wrong = await quota(site, gpus=5, gpus_max=4)
    assert (wrong.status, wrong.param) == (422, "gpus_max")
    assert (await quota(site, gpus=1)).generation == 1, "the same again changes nothing"
    stale = await quota(site, gpus=2, generation=7)
    assert (stale.status, stale.code) == (412, "generation_mismatch")


async def test_a_site_tells_tenants_what_it_offers_and_operators_what_it_holds(site: Site) -> None:
    await servers(site, 2, assurances=["hds"])
    await submit(site, members=1)
    await cap(site, 9_000, level="site", domain=DEFAULT_SITE)
    offered = await site.ask(GetSite, TENANT)
    assert (offered.jurisdictions, offered.assurances) == (["FR"], ["hds"])
    assert (offered.gpu_models, offered.nodes, offered.planned_w) == (["rehearsal"], None, None)
    (whole,) = (await site.ask(ListSites)).items
    assert (whole.nodes, whole.jobs, whole.leases) == ({"ready": 2}, {"admitted": 1}, {})
    assert (whole.gpus, whole.gpu_milli_free, whole.domains) == (8, 4_000, {"pdu": 1, "rack": 1})
    assert (whole.planned_w, whole.cap_w) == (400, 9_000)


async def test_a_gang_is_explained_member_by_member_without_being_placed(site: Site) -> None:
    await servers(site, 2)
    answer = await explain(site, TENANT, resources=Resources(gpus=4), members=2)
    assert answer.fits
    assert sorted((seat.node, len(seat.gpus)) for seat in answer.seats) == [("n1", 4), ("n2", 4)]
    assert [reason.code for reason in answer.survivors][:2] == ["known", "ready"]
    assert "seats" in [reason.code for reason in answer.survivors]
    one = await explain(site, TENANT, resources=Resources(gpus=4))
    assert one.best is not None
    best = one.best
    assert best.score == best.gain - best.left - best.power - best.bias
    answer = await explain(site, TENANT, resources=Resources(gpus=4), members=3)
    assert (answer.fits, answer.seats, answer.reasons[0].code) == (False, [], "not_enough_seats")
    alone = await explain(site, TENANT, assurances=["secnumcloud"])
    assert (alone.fits, alone.reasons[0].code) == (False, "no_node_with_assurance")
    assert (await site.ask(GetNode, node="n1")).gpu_milli_free == 4_000


async def test_what_a_lost_rack_would_displace_is_told_and_nothing_is_touched(site: Site) -> None:
    await servers(site, 1)
    other = await site.node("spare", gpus=4, place={"rack": "r2"})
    await node_is(site, other, "ready")
    job = await submit(site, members=1)
    assert job.workloads[0].node in {"n1", "spare"}
    rack = "r1" if job.workloads[0].node == "n1" else "r2"
    lost = await explain(
        site, resources=Resources(gpus=4), supposed=[LoseDomain(level="rack", domain=rack)]
    )
    (displaced,) = lost.displaced
    assert (displaced.id, displaced.kind, displaced.fits) == (job.id, "job", True)
    assert displaced.nodes == ["spare" if rack == "r1" else "n1"]
    assert (lost.fits, lost.reasons[0].code) == (False, "not_enough_gpus"), "the job took the last"
    both = [LoseDomain(level="rack", domain="r1"), LoseDomain(level="node", domain="spare")]
    gone = await explain(site, supposed=both)
    assert [one.fits for one in gone.displaced] == [False]
    assert (await job_is(site, "admitted")).workloads == job.workloads


async def test_a_lowered_cap_and_added_nodes_are_tried_on_a_copy(site: Site) -> None:
    await servers(site, 1)
    job = await submit(site, members=1)
    low = CapDomain(level="rack", domain="r1", watts=250)
    capped = await explain(site, supposed=[low])
    assert (capped.ends, capped.breaches) == ([job.id], [])
    lower = await explain(site, supposed=[CapDomain(level="rack", domain="r1", watts=50)])
    assert [(one.level, one.domain, one.over_w) for one in lower.breaches] == [("rack", "r1", 50)]
    shape = {"resources": Resources(gpus=4), "members": 3}
    assert not (await explain(site, **shape)).fits
    grown = await explain(site, **shape, supposed=[AddNodes(nodes=3, like="n1")])
    assert (grown.fits, grown.ends) == (True, [])
    assert {seat.node for seat in grown.seats} == {"n1.added-1", "n1.added-2", "n1.added-3"}
    assert (await site.ask(ListCaps)).items == []
    assert (await site.ask(GetSite)).gpus == 4


async def test_a_cap_below_the_plan_has_the_job_of_least_worth_make_way(site: Site) -> None:
    (node,) = await servers(site, 1)
    dear = await submit(site, "dear", members=1, resources=Resources(gpus=2), priority=200)
    cheap = await submit(site, "cheap", members=1, resources=Resources(gpus=2))
    low = await cap(site, 210)
    assert (low.planned_w, low.room_w) == (200, 10), "what makes way counts no more"
    gone = await job_is(site, "preempted", "cheap")
    assert gone.reasons[0].code == "power_shed"
    assert (await job_of(site, "dear")).workloads == dear.workloads
    await node.stopped(cheap.workloads[0].id)
    waits = await job_is(site, "queued", "cheap")
    assert waits.reasons[0].code in {"power_shed", "power_capped"}
    await cap(site, None)
    await job_is(site, "admitted", "cheap")


async def test_a_change_of_what_is_not_there_is_named_and_tenants_suppose_nothing(site: Site) -> None:
    await servers(site, 1)
    for change, param in (
        (LoseDomain(level="rack", domain="r9"), "changes[0].domain"),
        (LoseDomain(level="node", domain="n9"), "changes[0].domain"),
        (CapDomain(level="row", domain="w1", watts=1), "changes[0].domain"),
        (AddNodes(nodes=1, like="n9"), "changes[0].like"),
    ):
        answer = await explain(site, supposed=[change])
        assert isinstance(answer, Problem), change
        assert (answer.status, answer.param) == (422, param)
    denied = await explain(site, TENANT, supposed=[LoseDomain(level="node", domain="n1")])
    assert (denied.status, denied.code) == (403, "forbidden")


async def test_moves_that_would_make_room_are_shown_and_none_is_made(site: Site) -> None:
    by_id = {node.id: node for node in await servers(site, 2)}
    for name in ("a", "b"):
        assert (await submit(site, name, members=1, resources=Resources(gpus=3))).workloads
    for name in ("c", "d"):
        assert (await site.create(name=name, resources=Resources(gpus=1, memory_mib=1))).workloads
    for name in ("a", "b"):
        (item,) = (await job_of(site, name)).workloads
        await cancel(site, name)
        await by_id[item.node_id].stopped(item.id)

    async def room() -> bool:
        free = [(await site.ask(GetNode, node=name)).gpu_milli_free for name in ("n1", "n2")]
        return free == [3_000, 3_000]

    await eventually(room)
    assert not (await explain(site, resources=Resources(gpus=4))).fits
    shown = await site.ask(PlanMoves, resources=Resources(gpus=4))
    (move,) = shown.items
    assert (move.kind, shown.before, shown.after, shown.gain_gpu_milli) == ("endpoint", 0, 1, 4_000)
    assert {move.from_node, move.to_node} == {"n1", "n2"}
    alone = await site.ask(PlanMoves, resources=Resources(gpus=3), isolation="node")
    assert (len(alone.items), alone.before, alone.after) == (1, 0, 1)
    assert not (await explain(site, resources=Resources(gpus=4))).fits, "it was only shown"
    denied = await site.ask(PlanMoves, TENANT, resources=Resources(gpus=4))
    assert (denied.status, denied.code) == (403, "forbidden")
