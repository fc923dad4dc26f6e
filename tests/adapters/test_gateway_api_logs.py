"""The log of a workload through the public door: it waits a moment for its node."""

from typing import Any

import pytest
from mesh_contracts import placement
from meshkit.testing import test_id

from tests.adapters.gateways import Town
from tests.adapters.owners import Owners, said

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("ended", [False, True])
async def test_a_log_is_answered_once_its_node_has_told_it(
    here: Town, owners: Owners, *, ended: bool
) -> None:
    workload, node = test_id("workload", "train"), test_id("node", "n1")
    number = 0 if ended else 2
    about: Any = {"workload_id": workload, "node_id": node, "node": "n1", "ended": ended}
    before = {} if ended else {"text": "before", "number": 1}
    told = [before, before, {"text": "now", "number": number}]

    async def read() -> placement.Log:
        return placement.Log(**about, **told.pop(0))

    wished = placement.LogWished(workload_id=workload, number=number)
    await owners.answer("placement", {placement.WishLog: wished, placement.ReadLog: read})
    found = await said(here.get(f"/api/v1/workloads/{workload}/log"), 200)
    assert (found["text"], found["node"], told) == ("now", "n1", [])
