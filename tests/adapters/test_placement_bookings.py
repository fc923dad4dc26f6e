"""Leases that begin later have their servers kept for them. Against a real nats-server and a real Postgres."""

from datetime import UTC, datetime, timedelta

import pytest
from mesh_contracts.placement import SetQuota

from tests.adapters.fleet import ORGANIZATION, Site
from tests.adapters.holdings import job_is, lease, lease_is, lease_of, release, servers, submit

pytestmark = pytest.mark.slow


def at(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def test_servers_are_kept_for_a_lease_from_its_start_on_and_handed_over_then(site: Site) -> None:
    await servers(site, 1)
    booked = await lease(site, starts_at=at(4), ends_at=at(3_600))
    assert (booked.state, booked.reasons[0].code) == ("requested", "starts_later")
    assert "kept for it" in booked.reasons[0].detail
    long = await submit(site, "long", members=1)
    assert (long.state, long.workloads) == ("queued", []), "it would be there when the lease begins"
    began = await lease_is(site, "reserved")
    assert [item.node for item in began.workloads] == ["n1"]
    assert (await lease_of(site)).starts_at is not None


async def test_a_lease_for_which_there_will_be_no_server_is_refused_at_once(site: Site) -> None:
    await servers(site, 1)
    await lease(site, starts_at=at(600), ends_at=at(7_200))
    refused = await lease(site, "second", starts_at=at(1_200), ends_at=at(9_000))
    assert (refused.state, refused.reasons[0].code) == ("refused", "not_enough_servers")
    assert refused.reasons[0].unblock
    later = await lease(site, "third", starts_at=at(90_000), ends_at=at(99_000))
    assert later.state == "requested"


async def test_a_booked_lease_that_is_given_back_frees_its_servers_for_others(site: Site) -> None:
    await servers(site, 1)
    await lease(site, starts_at=at(600), ends_at=at(7_200))
    assert (await submit(site, "long", members=1)).state == "queued"
    assert (await release(site)).state == "ended"
    await job_is(site, "admitted", "long")


async def test_a_booked_lease_that_its_limit_no_longer_allows_is_refused_and_nothing_is_kept(
    site: Site,
) -> None:
    await servers(site, 1)
    await lease(site, starts_at=at(4), ends_at=at(3_600))
    await site.ask(SetQuota, scope_kind="organization", scope=ORGANIZATION, gpus_max=0)
    refused = await lease_is(site, "refused")
    assert refused.reasons[0].code == "quota_limit"
    await site.ask(SetQuota, scope_kind="organization", scope=ORGANIZATION, gpus=1)
    await submit(site, "long", members=1)
    await job_is(site, "admitted", "long")
