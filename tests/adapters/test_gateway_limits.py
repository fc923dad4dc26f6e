"""``/api/v1/budgets`` and ``/limits``: what is asked of metering, and what is refused before anybody is asked."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mesh_contracts import metering
from mesh_contracts.ask import Problem
from mesh_contracts.units import Wide
from meshkit.testing import NOW, test_id

from tests.adapters.gateways import PROJECT, Town
from tests.adapters.owners import Owners, admin_of, said

pytestmark = pytest.mark.slow

BUDGET = {"scope": {"kind": "project", "id": "rail"}, "amount_microeur": "5000000"}
LIMIT = {"scope": {"kind": "key", "id": "key_1"}, "requests_per_minute": 60}


@pytest.fixture
async def owners(here: Town) -> AsyncIterator[Owners]:
    made = Owners(here)
    yield made
    await made.stop()


def budget(name: str = "b", **fields: Any) -> metering.Budget:
    given = {
        "id": test_id("budget", name),
        "scope_kind": "project",
        "scope_id": PROJECT,
        "amount_microeur": Wide(2**60),
        "period": "month",
        "hard": True,
        "warn_percent": 80,
        "spent_microeur": Wide(0),
        "leased_microeur": Wide(0),
        "crossed": "none",
        "period_start": NOW,
        "generation": 1,
    }
    return metering.Budget(**{**given, **fields})


def limit(**fields: Any) -> metering.Limit:
    given = {
        "id": test_id("limit", "l"),
        "scope_kind": "key",
        "scope_id": test_id("key", "k"),
        "requests_per_minute": 60,
        "tokens_per_minute": None,
        "parallel_requests": None,
        "generation": 1,
    }
    return metering.Limit(**{**given, **fields})


@pytest.mark.parametrize(("generation", "status"), [(1, 201), (2, 200)])
async def test_a_budget_is_made_or_changed_and_says_where_it_is(
    here: Town, owners: Owners, generation: int, status: int
) -> None:
    await owners.answer("metering", {metering.SetBudget: budget(generation=generation)})
    headers = {"idempotency-key": "once", "if-match": '"1"'}
    key = await admin_of(here)
    async with here.post("/api/v1/budgets", BUDGET, key=key, **headers) as answer:
        found = json.loads(await answer.read())
        assert answer.status == status, found
        assert answer.headers["location"] == f"/api/v1/budgets/{found['id']}"
        assert answer.headers["etag"] == f'"{generation}"'
    assert found["amount_microeur"] == str(2**60), "past 2^53 it travels as text"
    (ask,) = owners.asked
    assert (ask.scope_kind, ask.scope, ask.amount_microeur) == ("project", "rail", 5_000_000)
    assert (ask.period, ask.hard, ask.warn_percent, ask.generation) == ("month", True, 80, 1)
    assert ask.idempotency_key == "once"


async def test_a_limit_is_made_changed_and_deleted(here: Town, owners: Owners) -> None:
    answers = {metering.SetLimit: limit(), metering.DeleteLimit: limit(generation=2)}
    await owners.answer("metering", answers)
    key = await admin_of(here)
    made = await said(here.post("/api/v1/limits", LIMIT, key=key), 201)
    assert (made["requests_per_minute"], made["tokens_per_minute"]) == (60, None)
    url, sent = f"{here.base}/api/v1/limits/{made['id']}", {"authorization": f"Bearer {key}"}
    await said(here.http.delete(url, headers={**sent, "if-match": '"2"'}), 200)
    set_, gone = owners.asked
    assert (set_.scope, set_.requests_per_minute, set_.parallel_requests) == ("key_1", 60, None)
    assert (gone.limit, gone.generation) == (made["id"], 2)


async def test_what_is_wrong_with_a_budget_or_a_limit_is_named_and_nobody_is_asked(
    here: Town, owners: Owners
) -> None:
    await owners.answer("metering", {metering.SetBudget: budget(), metering.SetLimit: limit()})
    key = await admin_of(here)
    for path, body, code, param in (
        ("budgets", {**BUDGET, "amount": 1}, "unknown_field", "amount"),
        ("budgets", {**BUDGET, "scope": {"kind": "person", "id": "x"}}, "invalid_field", "scope.kind"),
        ("budgets", {**BUDGET, "scope": {"kind": "key"}}, "invalid_field", "scope.id"),
        ("budgets", {**BUDGET, "amount_microeur": "-1"}, "invalid_field", "amount_microeur"),
        ("budgets", {**BUDGET, "period": "year"}, "invalid_field", "period"),
        ("budgets", {**BUDGET, "warn_percent": 101}, "invalid_field", "warn_percent"),
        ("limits", {**LIMIT, "requests_per_minute": 0}, "invalid_field", "requests_per_minute"),
        ("limits", {**LIMIT, "tokens_per_minute": 2**60}, "invalid_field", "tokens_per_minute"),
    ):
        found = await said(here.post(f"/api/v1/{path}", body, key=key), 422)
        assert (found["code"], found["param"]) == (code, param), body
    assert owners.asked == []


async def test_a_tenant_reads_and_does_not_write(here: Town, owners: Owners) -> None:
    listed = {
        metering.ListBudgets: metering.Budgets(items=[budget()]),
        metering.ListLimits: metering.Limits(items=[limit()], next="more"),
        metering.SetBudget: budget(),
    }
    await owners.answer("metering", listed)
    found = await said(here.get("/api/v1/budgets?limit=3&cursor=c"), 200)
    assert [one["id"] for one in found["items"]] == [budget().id]
    assert (await said(here.get("/api/v1/limits"), 200))["next"] == "more"
    assert owners.principals[0].project == PROJECT
    assert (owners.asked[0].page.limit, owners.asked[0].page.cursor) == (3, "c")
    refused = await said(here.post("/api/v1/budgets", BUDGET), 403)
    assert "budget.write" in refused["detail"]


async def test_one_budget_is_found_by_its_id_and_another_is_not(here: Town, owners: Owners) -> None:
    await owners.answer(
        "metering", {metering.ListBudgets: metering.Budgets(items=[budget(), budget("c")])}
    )
    found = await said(here.get(f"/api/v1/budgets/{budget('c').id}"), 200)
    assert found["id"] == budget("c").id
    absent = await said(here.get(f"/api/v1/budgets/{budget('d').id}"), 404)
    assert absent["code"] == "budget_not_found"
    problem = Problem(title="x", status=412, code="generation_mismatch", detail="read it again")
    await owners.answer("metering", {metering.DeleteBudget: problem})
    url, key = f"{here.base}/api/v1/budgets/{budget().id}", await admin_of(here)
    gone = here.http.delete(url, headers={"authorization": f"Bearer {key}", "if-match": "9"})
    assert (await said(gone, 412))["code"] == "generation_mismatch"


async def test_what_a_lost_gateway_holds_is_an_operators_to_see_and_to_release(
    here: Town, owners: Owners
) -> None:
    held = metering.Holding(id="g1", epoch=3, lives_until=NOW, scopes=1, held_microeur=Wide(400_000))
    answers = {metering.ListHoldings: metering.Holdings(items=[held]), metering.ReleaseHolding: held}
    await owners.answer("metering", answers)
    url = f"{here.base}/api/v1/holdings"
    async with here.get("/api/v1/holdings") as refused:
        assert refused.status == 403
    async with here.http.delete(
        f"{url}/g1", headers={"authorization": f"Bearer {here.key}"}
    ) as refused:
        assert refused.status == 403
        assert "holding.write" in json.loads(await refused.read())["detail"]
    key = await admin_of(here)
    listed = await said(here.get("/api/v1/holdings", key=key), 200)
    assert [one["held_microeur"] for one in listed["items"]] == ["400000"]
    gone = here.http.delete(f"{url}/g1", headers={"authorization": f"Bearer {key}"})
    assert (await said(gone, 200))["id"] == "g1"
    assert owners.asked[-1].producer == "g1"
