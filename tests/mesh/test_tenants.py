"""Two tenants under one roof never see each other."""

import pytest

from tests.mesh.harness import Mesh, until

pytestmark = pytest.mark.slow

CHAT = {"max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]}


def test_two_tenants_never_see_each_others_models_usage_events_or_requests(mesh: Mesh) -> None:
    bank_project, bank = mesh.project("bank")
    rail_project, rail = mesh.project("rail")
    mesh.deploy(bank, "ledger-model", "bank")
    mesh.deploy(rail, "train-model", "rail")

    bank_models = {model["id"] for model in bank.get("/v1/models")["data"]}
    rail_models = {model["id"] for model in rail.get("/v1/models")["data"]}
    assert bank_models == {"ledger-model"}
    assert rail_models == {"train-model"}

    foreign = rail.call("POST", "/v1/chat/completions", {"model": "ledger-model", **CHAT})
    assert foreign.status == 404
    mine = bank.call("POST", "/v1/chat/completions", {"model": "ledger-model", **CHAT})
    assert mine.status == 200
    request_id = mine.headers["x-request-id"]

    assert mesh.record(request_id, bank)["usage"]["project"] == bank_project["id"]
    assert rail.call("GET", f"/api/v1/requests/{request_id}").status == 404
    assert rail.call("GET", f"/api/v1/carbon/receipts/{request_id}").status == 404

    assert {item["project"] for item in bank.get("/api/v1/usage")["items"]} == {"bank"}
    assert rail.get("/api/v1/usage")["items"] == []

    endpoint_id = bank.get("/api/v1/endpoints")["items"][0]["id"]
    assert rail.call("GET", f"/api/v1/endpoints/{endpoint_id}").status == 404
    assert rail.call("DELETE", f"/api/v1/endpoints/{endpoint_id}").status == 404

    def bank_events() -> list[dict[str, object]] | None:
        items: list[dict[str, object]] = bank.get("/api/v1/events?limit=100")["items"]
        told = {str(item["type"]) for item in items}
        return items if any("usage.recorded" in kind for kind in told) else None

    seen = until("the bank's usage event", 10.0, bank_events)
    assert all(
        bank_project["id"] in str(item) or bank_project["organization_id"] in str(item) for item in seen
    )
    rails = rail.get("/api/v1/events?limit=100")["items"]
    assert bank_project["id"] not in str(rails)
    assert rail_project["id"] in str(rails)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/nodes"),
        ("POST", "/api/v1/organizations"),
        ("POST", "/api/v1/projects"),
        ("POST", "/api/v1/join-tokens"),
        ("GET", "/api/v1/dead-letters?owner=metering"),
    ],
)
def test_a_tenant_is_told_which_permission_the_operators_paths_need(
    mesh: Mesh, method: str, path: str
) -> None:
    body = {"name": "x", "organization": "demo"} if method == "POST" else None
    answered = mesh.tenant.call(method, path, body)
    assert answered.status in {403, 422}
    assert answered.body["code"]


def test_a_revoked_key_opens_nothing_once_the_revocation_is_answered(mesh: Mesh) -> None:
    _, caller = mesh.project("gone")
    keys = [
        key
        for key in mesh.operator.get("/api/v1/keys?limit=1000")["items"]
        if key["name"] == "gone-key"
    ]
    assert mesh.operator.call("DELETE", f"/api/v1/keys/{keys[0]['id']}").status == 200
    until(
        "the key is refused",
        2.0,
        lambda: True if caller.call("GET", "/v1/models").status == 401 else None,
    )
