"""What comes to placement at an awkward moment, against a real nats-server and a real Postgres."""

from datetime import timedelta

import pytest
from mesh_contracts.placement import Resources, SetCap, SetQuota
from mesh_contracts.units import DEFAULT_SITE
from meshkit.clock import SystemClock
from placement import memory
from placement.domain.engine.notice import Ticked
from placement.domain.wishes import milliseconds
from placement.rollback import Base

from tests.adapters.fleet import Site, state_of
from tests.adapters.holdings import (
    begin,
    cancel,
    job_is,
    job_of,
    lease,
    lease_is,
    servers,
    submit,
)

pytestmark = pytest.mark.slow


async def waits(site: Site) -> set[str]:
    """Return who waits by the tables."""
    async with site.service.store.transaction() as tx:
        return {row["job_id"] for row in await tx.rows("SELECT job_id FROM job WHERE place = 'waits'")}


@pytest.mark.parametrize("why", ["another is worth more", "a cap leaves no watts"])
async def test_a_job_that_was_cancelled_and_gives_way_while_it_stops_does_not_come_again(
    site: Site, why: str
) -> None:
    (node,) = await servers(site, 1)
    made = await submit(site, members=1)
    await begin([node], made)
    await job_is(site, "running")
    assert (await cancel(site)).state == "cancelled"
    if why == "another is worth more":
        urgent = await submit(site, "urgent", members=1, priority=500)
        assert urgent.state == "admitted"
        await node.stopped(urgent.workloads[0].id, exit_code=0)
        await job_is(site, "succeeded", "urgent")
    else:
        low = await site.ask(SetCap, level="rack", domain="r1", watts=100)
        assert low.planned_w == 100
        assert await waits(site) == set(), "who is told its place in line has one"
        await site.ask(SetCap, level="rack", domain="r1", watts=None)
    await node.stopped(made.workloads[0].id)
    whole = await submit(site, "next", members=1, resources=Resources(gpus=4), priority=0)
    assert whole.state == "admitted", "nobody holds anything of the node any more"
    over = await job_of(site)
    assert (over.state, over.attempt, over.reasons) == ("cancelled", 1, [])


async def test_a_quota_that_is_refused_costs_nobody_a_rollback(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await servers(site, 1)
    made: list[Base] = []
    monkeypatch.setattr(Base, "engine", made.append)
    refused = await site.ask(SetQuota, scope_kind="organization", scope="acme", gpus=1_000)
    assert (refused.status, refused.code) == (422, "quota_not_covered")
    assert (await submit(site, members=1)).state == "admitted"
    assert made == []


async def test_an_endpoint_without_room_is_tried_again_once_there_may_be_some_and_not_with_each_fact(
    site: Site,
) -> None:
    (node,) = await servers(site, 1)
    made = await submit(site, members=1, preemptible=False)
    waiting = await site.create(resources=Resources(gpus=4))
    assert (waiting.state, waiting.workloads) == ("pending", [])
    before = await decisions(site)
    await begin([node], made)
    await job_is(site, "running")
    assert await decisions(site) == before
    await node.stopped(made.workloads[0].id, exit_code=0)
    await job_is(site, "succeeded")
    assert len((await state_of(site)).workloads) == 1


async def decisions(site: Site) -> int:
    """Return how many decisions there are."""
    async with site.service.store.transaction() as tx:
        return int(await tx.value("SELECT max(seq) FROM decision"))


async def test_a_lease_may_start_before_the_time_that_another_leaders_clock_has_told(
    site: Site,
) -> None:
    await servers(site, 2)
    now = SystemClock().now()
    ahead = now + timedelta(seconds=8)
    async with site.service.store.transaction() as tx:
        await memory.apply(tx, DEFAULT_SITE, Ticked(at=milliseconds(ahead)))
    soon, before = now + timedelta(seconds=5), ahead - timedelta(seconds=1)
    short = await lease(site, "short", starts_at=soon, ends_at=before)
    later = await lease(site, starts_at=soon, ends_at=now + timedelta(seconds=60))
    assert (short.state, later.state) == ("requested", "requested")
    assert later.reasons[0].code == "starts_later"
    await lease_is(site, "reserved")
