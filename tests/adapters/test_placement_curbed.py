"""What is stopped because a power cap leaves no watts for it, against a real Postgres."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from mesh_contracts.placement import Resources
from placement import memory, store
from placement.domain.engine.notice import Curbed
from placement.outcomes import Outcomes

from tests.adapters.watched import Hall

pytestmark = pytest.mark.slow


async def test_a_replica_that_finishes_what_it_has_ends_at_once_where_a_cap_leaves_no_watts(
    hall: Hall,
) -> None:
    # It was left alone, taken back as others of its endpoint were stopped, and went on above the cap.
    await hall.join("n1")
    item, now = await hall.create("story", Resources(gpus=1)), hall.clock.now()
    async with hall.store.transaction() as tx:
        await store.drain(tx, item, now, now + timedelta(seconds=30))
    async with hall.store.transaction() as tx:
        cause = SimpleNamespace(site=item.site)
        found = Outcomes(tx, cause, now)
        await memory.hold(tx, item.site)
        await found.curb(Curbed(workload=item.workload_id, by="the power cap of rack r1"))
    [after] = await hall.workloads(item.endpoint_id)
    assert (after.state, after.draining, found.curbed) == ("stopping", False, [item.endpoint_id])
    assert [one.code for one in after.reasons] == ["power_shed"]
