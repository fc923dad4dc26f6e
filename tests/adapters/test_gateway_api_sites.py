"""When nodes are worked on, under ``/api/v1/sites``: each path is one ask of placement."""

from typing import Any

import pytest
from mesh_contracts import placement
from mesh_contracts.units import DEFAULT_SITE
from meshkit.testing import NOW, test_id

from tests.adapters.gateways import Town
from tests.adapters.owners import Owners, admin_of, said

pytestmark = pytest.mark.slow

PATH = f"/api/v1/sites/{DEFAULT_SITE}/maintenance"
LEASE = test_id("lease", "metal")
BODY = {"nodes": ["n1", "n2"], "starts_at": "2027-01-01T22:00:00Z", "reason": "new fans"}
WINDOW = placement.Maintenance(
    id=test_id("window"),
    site=DEFAULT_SITE,
    state="planned",
    nodes=["n1"],
    starts_at=NOW,
    ends_at=None,
    reason="new fans",
    planned_by="key_1",
    created_at=NOW,
    since=NOW,
    remain=[placement.Remaining(id=LEASE, kind="lease")],
    remain_count=1,
)


@pytest.fixture
async def owners(owners: Owners) -> Owners:
    listed = placement.Maintenances(items=[WINDOW], next="more")
    kinds = (placement.PlanMaintenance, placement.CancelMaintenance)
    await owners.answer(
        "placement", {**dict.fromkeys(kinds, WINDOW), placement.ListMaintenance: listed}
    )
    return owners


async def test_a_maintenance_window_is_planned_listed_and_cancelled_by_operators(
    here: Town, owners: Owners
) -> None:
    key = await admin_of(here)
    made = await said(here.post(PATH, BODY, key=key, **{"idempotency-key": "once"}), 201)
    assert (made["id"], made["ends_at"], made["state"]) == (WINDOW.id, None, "planned")
    assert made["remain"] == [{"id": LEASE, "kind": "lease"}]
    found = await said(here.get(f"{PATH}?ended=true&limit=7", key=key), 200)
    assert (len(found["items"]), found["next"]) == (1, "more")
    headers = {"authorization": f"Bearer {key}"}
    await said(here.http.delete(f"{here.base}{PATH}/{WINDOW.id}", headers=headers), 202)
    planned, listed, cancelled = owners.asked
    assert (planned.nodes, planned.ends_at, planned.reason) == (["n1", "n2"], None, "new fans")
    assert (planned.starts_at.hour, planned.idempotency_key) == (22, "once")
    assert (listed.ended, listed.page.limit, cancelled.window) == (True, 7, WINDOW.id)
    elsewhere = here.get("/api/v1/sites/elsewhere/maintenance", key=key)
    assert (await said(elsewhere, 404))["code"] == "site_not_found"
    assert "maintenance.write" in (await said(here.post(PATH, BODY), 403))["detail"]
    assert "maintenance.read" in (await said(here.get(PATH), 403))["detail"]


@pytest.mark.parametrize(
    ("more", "code", "param"),
    [
        ({"nodes": []}, "invalid_field", "nodes"),
        ({"nodes": ["n"] * 1_025}, "invalid_field", "nodes"),
        ({"starts_at": "2027-01-01"}, "invalid_field", "starts_at"),
        ({"reason": None}, "invalid_field", "reason"),
        ({"until": None}, "unknown_field", "until"),
    ],
)
async def test_a_window_that_is_no_window_is_named_and_nobody_is_asked(
    here: Town, owners: Owners, more: dict[str, Any], code: str, param: str
) -> None:
    key = await admin_of(here)
    found = await said(here.post(PATH, {**BODY, **more}, key=key), 422)
    assert (found["code"], found["param"]) == (code, param)
    assert owners.asked == []
