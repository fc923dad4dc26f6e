"""Failed checks empty no hall: beyond a few nodes a person looks first. Against a real nats-server and Postgres."""

import pytest
from mesh_contracts.placement import (
    BreakerRearmed,
    BreakerTripped,
    GetNode,
    GetSite,
    RearmBreaker,
    ReturnNode,
)

from tests.adapters.fleet import ADMIN, TENANT, Site, node_is
from tests.adapters.holdings import servers, told

pytestmark = pytest.mark.slow


async def test_beyond_a_tenth_what_fails_its_check_stays_until_a_person_has_looked(site: Site) -> None:
    first, second, third = await servers(site, 3)
    bare = await site.node("bare", gpus=0)
    await node_is(site, bare, "ready")
    await bare.check(verdict="fail")
    await node_is(site, bare, "cordoned")
    assert (await site.ask(GetSite)).breaker.cordoned == 0, "it has no GPU"

    await first.check(verdict="fail")
    await node_is(site, first, "cordoned")
    await second.check(verdict="fail")
    (fact,) = await told(site, BreakerTripped)
    assert (fact.cordoned, fact.most, fact.gpu_nodes) == (1, 1, 3)
    stays = await site.ask(GetNode, node=second.name)
    assert (stays.state, stays.reasons[-1].code) == ("ready", "quarantine_held")
    breaker = (await site.ask(GetSite)).breaker
    assert (breaker.tripped_at is not None, breaker.held) == (True, ["n2"])
    assert (await site.ask(GetSite, TENANT)).breaker is None, "it is not for tenants to see"

    await site.ask(ReturnNode, node=first.name)
    await first.check(number=1)
    await node_is(site, first, "ready")

    denied = await site.ask(RearmBreaker, TENANT, reason="let me")
    assert (denied.status, denied.code) == (403, "forbidden")
    armed = await site.ask(RearmBreaker, reason="the threshold was wrong")
    assert (armed.tripped_at, armed.held, armed.cordoned) == (None, [], 0)
    (fact,) = await told(site, BreakerRearmed)
    assert (fact.principal_id, fact.held) == (ADMIN.principal_id, 1)
    assert (await site.intent(second)).check == 1, "it is checked anew"
    assert (await site.ask(GetNode, node=second.name)).state == "ready"
    await second.check(number=1, verdict="fail")
    await node_is(site, second, "cordoned")
    await third.check(verdict="fail")
    assert len(await told(site, BreakerTripped, 2)) == 2
