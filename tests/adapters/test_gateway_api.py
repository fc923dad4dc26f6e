"""``/api/v1``: each path is one ask, each refusal a problem that says what to do."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from mesh_contracts import identity, metering, placement
from mesh_contracts.ask import DeadLetters, ListDeadLetters, Problem
from mesh_contracts.units import DEFAULT_SITE
from meshkit.testing import NOW, test_id

from tests.adapters.gateways import ORGANIZATION, PROJECT, Town
from tests.adapters.owners import Owners, admin_of, said

pytestmark = pytest.mark.slow

REQUEST = test_id("request", "explained")
ENDPOINT = test_id("endpoint", "chat")
WISH = {"name": "chat", "model": {"id": "tiny", "source": "builtin"}}


def endpoint(**fields: Any) -> placement.Endpoint:
    known = {
        "id": ENDPOINT,
        "name": "chat",
        "project_id": PROJECT,
        "organization_id": ORGANIZATION,
        "model": placement.Model(id="tiny"),
        "engine": placement.Engine(),
        "replicas": placement.Replicas(),
        "resources": placement.Resources(),
        "residency": placement.Residency(),
        "site": DEFAULT_SITE,
        "state": "pending",
        "ready": 0,
        "generation": 3,
        "created_at": NOW,
        "since": NOW,
    }
    return placement.Endpoint(**{**known, **fields})


async def test_what_takes_time_is_accepted_with_where_to_look(here: Town, owners: Owners) -> None:
    await owners.answer("placement", {placement.CreateEndpoint: endpoint()})
    async with here.post("/api/v1/endpoints", WISH, **{"idempotency-key": "once"}) as answer:
        assert answer.status == 202
        assert answer.headers["location"] == f"/api/v1/endpoints/{ENDPOINT}"
        assert answer.headers["etag"] == '"3"'
        assert json.loads(await answer.read())["state"] == "pending"
    (ask,) = owners.asked
    assert ask.project == PROJECT, "the project of the caller's key"
    assert ask.idempotency_key == "once"
    (principal,) = owners.principals
    assert (principal.role, principal.project, principal.organization) == (
        "project",
        PROJECT,
        ORGANIZATION,
    )


async def test_a_field_that_is_unknown_or_wrong_is_named_and_nobody_is_asked(
    here: Town, owners: Owners
) -> None:
    await owners.answer("placement", {placement.CreateEndpoint: endpoint()})
    for body, code, param in (
        ({**WISH, "replica": 2}, "unknown_field", "replica"),
        ({**WISH, "model": {"id": "tiny", "size": 1}}, "unknown_field", "model.size"),
        ({"name": "chat"}, "invalid_field", "model"),
        ({**WISH, "name": "Not A Name"}, "invalid_field", "name"),
        ({**WISH, "replicas": {"min": -1}}, "invalid_field", "replicas.min"),
    ):
        found = await said(here.post("/api/v1/endpoints", body), 422)
        assert (found["code"], found["param"]) == (code, param), body
        assert "regex" not in found["detail"]
    named = await said(here.post("/api/v1/endpoints", {**WISH, "name": "Not A Name"}), 422)
    assert "Expected a name: 1 to 63 lower-case letters" in named["detail"]
    headers = {"authorization": f"Bearer {here.key}", "content-type": "application/json"}
    url = f"{here.base}/api/v1/endpoints"
    await said(here.http.post(url, data=b"{not json", headers=headers), 400)
    assert owners.asked == []


async def test_a_change_names_the_generation_it_was_made_from(here: Town, owners: Owners) -> None:
    await owners.answer("placement", {placement.ChangeEndpoint: endpoint(generation=4)})
    url, body = f"{here.base}/api/v1/endpoints/chat", {"replicas": {"min": 1, "max": 2}}
    headers = {"authorization": f"Bearer {here.key}"}
    found = await said(here.http.patch(url, json=body, headers=headers), 428)
    assert found["param"] == "If-Match"
    await said(here.http.patch(url, json=body, headers={**headers, "if-match": "soon"}), 422)
    changed = here.http.patch(url, json=body, headers={**headers, "if-match": '"3"'})
    assert (await said(changed, 202))["generation"] == 4
    assert owners.asked[0].generation == 3


async def test_an_owners_problem_is_given_as_it_is(here: Town, owners: Owners) -> None:
    problem = Problem(
        title="Taken", status=409, code="name_taken", detail="choose another name", param="name"
    )
    await owners.answer("identity", {identity.CreateOrganization: problem})
    key = await admin_of(here)
    found = await said(here.post("/api/v1/organizations", {"name": "rail"}, key=key), 409)
    assert (found["code"], found["param"]) == ("name_taken", "name")


async def test_who_may_not_is_told_so_and_who_is_away_is_503(here: Town, owners: Owners) -> None:
    await owners.answer("identity", {identity.CreateOrganization: Problem})
    found = await said(here.post("/api/v1/organizations", {"name": "rail"}), 403)
    assert "organization.write" in found["detail"]
    assert owners.asked == []
    found = await said(here.get("/api/v1/usage"), 503)
    assert found["retry_after_s"]
    await said(here.get("/api/v1/usage", key="none"), 401)


async def test_nodes_are_spoken_to_with_a_verb(here: Town, owners: Owners) -> None:
    node = placement.Node(
        id=test_id("node"),
        name="n1",
        site=DEFAULT_SITE,
        state="cordoned",
        rehearsal=True,
        devices=[],
        gpus=0,
        gpu_milli_free=0,
        memory_mib=1,
        memory_mib_free=1,
        workloads=0,
        generation=2,
        since=NOW,
    )
    verbs = (placement.CordonNode, placement.ReturnNode, placement.CheckNode)
    await owners.answer("placement", dict.fromkeys(verbs, node))
    key = await admin_of(here)
    for verb in ("cordon", "return", "check"):
        got = await said(here.post(f"/api/v1/nodes/n1:{verb}", {}, key=key), 202)
        assert got["rehearsal"] is True
    without_body = here.http.post(
        f"{here.base}/api/v1/nodes/n1:check", headers={"authorization": f"Bearer {key}"}
    )
    await said(without_body, 202)
    assert [type(ask) for ask in owners.asked] == [*verbs, placement.CheckNode]
    assert {ask.node for ask in owners.asked} == {"n1"}
    await said(here.post("/api/v1/nodes/n1:explode", {}, key=key), 405)


async def test_lists_are_paged_and_their_bounds_are_said(here: Town, owners: Owners) -> None:
    listed = metering.Usages(items=[], next="more")
    await owners.answer("metering", {metering.ListUsage: listed})
    query = "limit=7&cursor=abc&since=2026-01-01T00:00:00Z"
    found = await said(here.get(f"/api/v1/usage?{query}"), 200)
    assert found == {"items": [], "next": "more"}
    (ask,) = owners.asked
    assert (ask.page.limit, ask.page.cursor) == (7, "abc")
    assert ask.since == datetime(2026, 1, 1, tzinfo=UTC)
    for query, param in (
        *(
            ("limit=0", "limit"),
            ("limit=5000", "limit"),
            ("since=soon", "since"),
            ("until=2026-01-01T00:00:00", "until"),
        ),
        *(("cursor=a%00b", "cursor"), ("cursor=%C3%A9", "cursor")),
    ):
        found = await said(here.get(f"/api/v1/usage?{query}"), 422)
        assert found["param"] == param
    await said(here.get("/api/v1/dead-letters"), 422)


async def test_a_stranger_is_told_so_before_anything_else_of_the_request(here: Town) -> None:
    await said(here.post("/api/v1/endpoints", {"bogus": 1}, key="none"), 401)
    await said(here.get("/api/v1/dead-letters", key="none"), 401)


async def test_a_parameter_that_a_path_does_not_take_is_named(here: Town, owners: Owners) -> None:
    await owners.answer("metering", {metering.ListUsage: metering.Usages(items=[])})
    found = await said(here.get("/api/v1/usage?untill=2026-01-01T00:00:00Z"), 422)
    assert (found["code"], found["param"]) == ("unknown_field", "untill")
    assert found["detail"].endswith("there are cursor, limit, since, until.")
    for path in ("/api/v1/sites?limit=1", f"/api/v1/requests/{REQUEST}?request_id=x"):
        assert (await said(here.get(path), 422))["code"] == "unknown_field"
    assert owners.asked == []


async def test_dead_letters_are_asked_of_the_owner_that_is_named(here: Town, owners: Owners) -> None:
    await owners.answer("metering", {ListDeadLetters: DeadLetters(items=[])})
    key = await admin_of(here)
    await said(here.get("/api/v1/dead-letters?owner=metering", key=key), 200)
    await said(here.get("/api/v1/dead-letters?owner=nobody", key=key), 422)
    await said(here.get("/api/v1/dead-letters?owner=metering"), 403)


async def test_nothing_is_at_an_unknown_path_and_that_is_a_problem_too(here: Town) -> None:
    for path in ("/api/v1/nothing", "/console", "/v1"):
        assert (await said(here.get(path), 404))["code"] == "unknown_path"
    assert (await said(here.post("/api/v1/usage", {}), 405))["code"] == "method_not_allowed"
    huge = {"name": "x" * 300_000}
    assert (await said(here.post("/api/v1/organizations", huge), 413))["code"]
