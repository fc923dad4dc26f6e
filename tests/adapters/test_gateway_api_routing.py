"""Bounds and routing of endpoints under ``/api/v1``: what is said reaches placement, what is not stays away."""

import pytest
from mesh_contracts import placement
from mesh_contracts.placement import Alias, Replicas, Routing

from tests.adapters.gateways import Town
from tests.adapters.owners import Owners, said
from tests.adapters.test_gateway_api import ENDPOINT, WISH, endpoint

ROUTING = Routing(by="prefix", sticky="key", aliases=[Alias(name="gpt", weight=3)], fallbacks=["small"])
AS_JSON = {
    "by": "prefix",
    "sticky": "key",
    "aliases": [{"name": "gpt", "weight": 3}],
    "fallbacks": ["small"],
}


@pytest.mark.slow
async def test_an_endpoint_is_made_changed_and_shown_with_its_routing(
    here: Town, owners: Owners
) -> None:
    answer = endpoint(routing=ROUTING, wanted=2)
    kinds = (placement.CreateEndpoint, placement.ChangeEndpoint, placement.GetEndpoint)
    await owners.answer("placement", dict.fromkeys(kinds, answer))
    bounds = {"min": 0, "max": 3, "target": 8, "sleep_after_ms": 60_000}
    body = {**WISH, "routing": AS_JSON, "replicas": bounds}
    made = await said(here.post("/api/v1/endpoints", body), 202)
    assert (made["routing"], made["wanted"]) == (AS_JSON, 2)
    url = f"{here.base}/api/v1/endpoints/{ENDPOINT}"
    headers = {"authorization": f"Bearer {here.key}", "if-match": '"3"'}
    for change in ({"routing": AS_JSON}, {"replicas": bounds}):
        await said(here.http.patch(url, json=change, headers=headers), 202)
    created, led, bounded = owners.asked
    scaled = Replicas(min=0, max=3, target=8, sleep_after_ms=60_000)
    assert (created.routing, created.replicas) == (ROUTING, scaled)
    assert (led.routing, led.replicas) == (ROUTING, None)
    assert (bounded.routing, bounded.replicas) == (None, scaled)
    shown = await said(here.get(f"/api/v1/endpoints/{ENDPOINT}"), 200)
    assert (shown["routing"], shown["wanted"]) == (AS_JSON, 2)


async def test_a_change_that_names_nothing_or_what_is_not_known_is_refused_by_field(
    here: Town, owners: Owners
) -> None:
    await owners.answer("placement", {placement.ChangeEndpoint: endpoint()})
    url = f"{here.base}/api/v1/endpoints/chat"
    headers = {"authorization": f"Bearer {here.key}", "if-match": '"3"'}
    for body, code, param in (
        ({}, "missing_field", None),
        ({"routing": {"bye": "prefix"}}, "unknown_field", "routing.bye"),
        ({"routing": {"by": "luck"}}, "invalid_field", "routing.by"),
        ({"routing": {"fallbacks": ["Not A Name"]}}, "invalid_field", "routing.fallbacks[0]"),
        ({"replicas": {"target": 0}}, "invalid_field", "replicas.target"),
        ({"model": {"id": "tiny"}}, "unknown_field", "model"),
    ):
        found = await said(here.http.patch(url, json=body, headers=headers), 422)
        assert (found["code"], found.get("param")) == (code, param), body
    assert owners.asked == []
