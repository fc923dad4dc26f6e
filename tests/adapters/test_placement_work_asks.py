"""What placement answers about jobs and leases, and refuses, against a real nats-server and a real Postgres."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
from mesh_contracts.ask import Page, Problem
from mesh_contracts.placement import (
    CancelJob,
    Command,
    CordonNode,
    GetJob,
    ListJobs,
    ListLeases,
    ReleaseLease,
    Residency,
    Resources,
)
from meshkit.clock import SystemClock

from tests.adapters.fleet import ADMIN, STRANGER, TENANT, Site
from tests.adapters.holdings import cancel, intended, lease, servers, submit

pytestmark = pytest.mark.slow


async def closed(site: Site) -> None:
    """Have servers that take no work: what is asked for waits."""
    for node in await servers(site, 2):
        await site.ask(CordonNode, node=node.name, reason="spare")


async def test_the_same_submission_twice_is_one_job_and_a_name_is_one_job_s(site: Site) -> None:
    await closed(site)
    first = await submit(site, key="once")
    assert (await submit(site, key="once")).id == first.id
    other = await submit(site, "other", key="once")
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    taken = await submit(site)
    assert (taken.status, taken.code) == (409, "name_taken")


async def test_a_stranger_sees_no_job_and_submits_none_for_others(site: Site) -> None:
    await closed(site)
    made = await submit(site)
    for kind in (GetJob, CancelJob):
        for name in (made.id, made.name):
            answer = await site.ask(kind, STRANGER, job=name)
            assert (answer.status, answer.code) == (404, "job_not_found")
    assert (await site.ask(ListJobs, STRANGER)).items == []
    assert [job.id for job in (await site.ask(ListJobs, ADMIN)).items] == [made.id]
    intruder = await submit(site, "mine", STRANGER)
    assert (intruder.status, intruder.code) == (404, "project_not_found")


@pytest.mark.parametrize(
    ("wished", "param"),
    [
        ({"command": Command(image=" ")}, "command.image"),
        ({"command": Command(image="i", argv=["x" * 1_900] * 2)}, "command"),
        ({"resources": Resources(gpus=1, gpu_milli=1)}, "resources.gpu_milli"),
        ({"residency": Residency(jurisdictions=["France"])}, "residency.jurisdictions"),
        ({"priority": 501}, "priority"),
        ({"run_max_s": 10, "min_run_s": 11}, "min_run_s"),
        ({"run_max_s": 2**40}, "run_max_s"),
    ],
)
async def test_what_no_free_room_would_make_possible_is_refused_and_named(
    site: Site, wished: dict[str, object], param: str
) -> None:
    answer = await submit(site, **wished)
    assert isinstance(answer, Problem)
    assert (answer.status, answer.param) == (422, param)


async def test_an_operator_may_say_that_work_is_worth_more(site: Site) -> None:
    await closed(site)
    assert (await submit(site, who=ADMIN, project="acme/demo", priority=900)).priority == 900


async def test_a_projects_name_with_more_behind_it_is_another_name(site: Site) -> None:
    await closed(site)
    answer = await submit(site, who=ADMIN, project="acme/demo/more")
    assert isinstance(answer, Problem)
    assert answer.code == "project_not_found"


async def test_a_change_is_made_only_to_the_job_that_was_read(site: Site) -> None:
    await closed(site)
    made = await submit(site)
    stale = await site.ask(CancelJob, TENANT, job="train", generation=made.generation + 1)
    assert (stale.status, stale.code) == (412, "generation_mismatch")
    gone = await site.ask(CancelJob, TENANT, job="train", generation=made.generation)
    assert gone.state == "cancelled"


async def test_jobs_are_listed_page_by_page_and_those_that_have_ended_on_demand(site: Site) -> None:
    await closed(site)
    for name in ("a", "b", "c"):
        await submit(site, name)
    await cancel(site, "b")
    page = await site.ask(ListJobs, TENANT, page=Page(limit=1))
    rest = await site.ask(ListJobs, TENANT, page=Page(limit=2, cursor=page.next))
    assert [[job.name for job in one.items] for one in (page, rest)] == [["a"], ["c"]]
    whole = await site.ask(ListJobs, TENANT, ended=True)
    assert [job.state for job in whole.items] == ["queued", "cancelled", "queued"]


@pytest.mark.parametrize(
    ("wished", "param"),
    [
        ({"nodes": 0}, "nodes"),
        ({"nodes": 1, "domains": 1}, "nodes"),
        ({"priority": 501}, "priority"),
        ({"ends_at": SystemClock().now() - timedelta(days=1)}, "ends_at"),
        ({"starts_at": SystemClock().now() + timedelta(days=400)}, "starts_at"),
    ],
)
async def test_a_lease_that_no_free_room_would_make_possible_is_refused_and_named(
    site: Site, wished: dict[str, object], param: str
) -> None:
    answer = await lease(site, **wished)
    assert isinstance(answer, Problem)
    assert (answer.status, answer.param) == (422, param)


async def test_a_stranger_sees_no_lease_and_releases_none(site: Site) -> None:
    await servers(site, 1)
    made = await lease(site)
    for name in (made.id, made.name):
        answer = await site.ask(ReleaseLease, STRANGER, lease=name)
        assert (answer.status, answer.code) == (404, "lease_not_found")
    assert (await site.ask(ListLeases, STRANGER)).items == []
    assert [one.id for one in (await site.ask(ListLeases, ADMIN)).items] == [made.id]
    stale = await site.ask(ReleaseLease, TENANT, lease="metal", generation=made.generation + 1)
    assert (stale.status, stale.code) == (412, "generation_mismatch")


async def test_jobs_and_leases_that_race_for_the_last_servers_share_none(site: Site) -> None:
    nodes = await servers(site, 2)
    asked = [submit(site, f"j{n}", members=1) for n in range(6)]
    asked += [lease(site, f"l{n}") for n in range(6)]
    made = await asyncio.gather(*asked)
    placed = [one for one in made if one.workloads]
    assert sorted(one.workloads[0].node for one in placed) == ["n1", "n2"]
    states = Counter(one.state for one in made)
    assert states["queued"] + states["refused"] == 10
    specs = [spec for node in nodes for spec in await intended(site, node)]
    assert {spec.owner_id for spec in specs} == {one.id for one in placed}
