"""Budgets in a real Postgres: what lines are charged to, what gateways hold, what is told and shown."""

from collections.abc import AsyncIterator

import msgspec
import pytest
from mesh_contracts.ask import Problem
from mesh_contracts.metering import DeleteBudget, RenewLeases, SetBudget
from mesh_contracts.units import Wide
from meshkit.testing import test_id
from metering.crossing import all_shown
from metering.rolling import roll

from tests.adapters.purses import (
    ENDPOINT,
    KEY,
    ORGANIZATION,
    OTHER,
    PROJECT,
    TENANT,
    Purses,
    purses,
)
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

EURO = 1_000_000


@pytest.fixture
async def here(postgres: PostgresServer) -> AsyncIterator[Purses]:
    async with purses(postgres.dsn("metering")) as made:
        yield made


async def rolled(here: Purses) -> int:
    async with here.store.transaction() as tx:
        return await roll(tx)


async def test_a_line_is_charged_once_to_each_budget_that_it_belongs_to(here: Purses) -> None:
    scopes = {
        "organization": ORGANIZATION,
        "project": PROJECT,
        "key": KEY,
        "endpoint": ENDPOINT,
    }
    for kind, scope in scopes.items():
        await here.budget(EURO, scope, kind)
    await here.budget(EURO, test_id("key", "another"), "key")
    batch = await here.bill("g1", here.row(300), here.row(40))
    await here.hear(batch)
    seen = await here.seen()
    assert {scope: seen[scope].spent_microeur for scope in scopes.values()} == dict.fromkeys(
        scopes.values(), 340
    )
    assert seen[test_id("key", "another")].spent_microeur == 0


async def test_a_budget_counts_what_was_spent_before_it_in_its_period_by_the_start_of_each_request(
    here: Purses,
) -> None:
    month, day = here.at("2026-11-02T00:00:00Z"), here.at("2026-11-20T08:00:00Z")
    await here.spend("g1", 7, started_at=month.replace(month=10))
    await here.spend("g1", 50, started_at=month)
    await here.spend("g1", 600, started_at=day.replace(hour=0))
    await here.spend("g1", 8_000, project=OTHER)
    spent = [
        (await here.budget(EURO, period=period)).spent_microeur for period in ("total", "month", "day")
    ]
    assert spent == [657, 650, 600]
    assert (await here.budget(EURO, ORGANIZATION, "organization")).spent_microeur == 8_657
    # A line that comes late belongs to the day on which its request started.
    await here.spend("g1", 1, started_at=month)
    await here.spend("g1", 2)
    assert (await here.seen())[PROJECT].spent_microeur == 602


async def test_what_is_granted_stays_held_until_it_is_returned_or_stands_in_the_ledger(
    here: Purses,
) -> None:
    await here.budget(4 * EURO)
    lease = await here.renew("g1", wanted_microeur=EURO)
    assert (lease.granted_microeur, lease.left_microeur) == (EURO, 3 * EURO)
    here.clock.move(1)
    await here.spend("g1", 300_000, admitted_epoch=1)
    budget = (await here.seen())[PROJECT]
    assert (budget.spent_microeur, budget.leased_microeur) == (300_000, 700_000)
    returned = {"returned_microeur": 500_000, "period_start": lease.period_start}
    for _ in range(2):
        lease = await here.renew("g1", **returned)
        assert (lease.granted_microeur, lease.left_microeur) == (EURO, 3_500_000)
    # An older ask that comes late takes nothing back.
    await here.renew("g1", period_start=lease.period_start, returned_microeur=1)
    assert (await here.seen())[PROJECT].leased_microeur == 200_000


async def test_no_more_is_granted_than_nobody_holds_and_a_lowered_amount_grants_nothing(
    here: Purses,
) -> None:
    await here.budget(EURO)
    for name in ("g1", "g2"):
        await here.renew(name, wanted_microeur=10 * EURO)
    held = (await here.seen())[PROJECT].leased_microeur
    assert 600_000 <= held < EURO
    lease = await here.renew("g3", wanted_microeur=10 * EURO)
    while lease.left_microeur:
        lease = await here.renew("g3", wanted_microeur=10 * EURO)
    assert (await here.seen())[PROJECT].leased_microeur == EURO
    await here.budget(EURO // 2)
    lease = await here.renew("g1", wanted_microeur=1)
    assert (lease.left_microeur, (await here.seen())[PROJECT].leased_microeur) == (0, EURO)
    await here.budget(EURO + 5)
    assert (await here.renew("g1", wanted_microeur=9)).left_microeur == 0
    assert (await here.seen())[PROJECT].leased_microeur == EURO + 5


async def test_what_a_dead_gateway_held_is_free_once_it_says_that_all_its_lines_have_come(
    here: Purses,
) -> None:
    await here.budget(EURO)
    await here.renew("g1", epoch=3, wanted_microeur=400_000)
    here.clock.move(60)
    lease = await here.renew("g1", epoch=4, settled_below=3, wanted_microeur=1)
    assert (await here.seen())[PROJECT].leased_microeur == 400_001
    await here.spend("g1", 150_000, epoch=4, admitted_epoch=3)
    assert (await here.seen())[PROJECT].leased_microeur == 250_001
    late = await here.ask(RenewLeases, producer="g1", epoch=3, wishes=[])
    assert isinstance(late, Problem)
    assert (late.status, late.code) == (409, "epoch_over")
    lease = await here.renew("g1", epoch=4, settled_below=4)
    assert (lease.granted_microeur, lease.left_microeur) == (1, 849_999)
    assert (await here.seen())[PROJECT].leased_microeur == 1


async def test_a_soft_budget_needs_no_lease_and_a_new_period_begins_with_nothing_held(
    here: Purses,
) -> None:
    await here.budget(EURO, hard=False, period="day")
    lease = await here.renew("g1", wanted_microeur=EURO)
    assert (lease.granted_microeur, lease.left_microeur) == (None, EURO)
    assert lease.period_end is not None
    await here.budget(EURO, hard=True, period="day")
    first = await here.renew("g1", wanted_microeur=EURO)
    here.at("2026-11-24T00:00:00Z")
    second = await here.renew("g1", wanted_microeur=7, period_start=first.period_start)
    assert (second.granted_microeur, second.period_start) == (7, first.period_end)
    # What started yesterday is yesterday's.
    assert first.period_end is not None
    await here.spend("g1", 90, started_at=first.period_start, admitted_epoch=1)
    assert ((await here.seen())[PROJECT].spent_microeur, second.left_microeur) == (0, EURO - 7)


async def test_a_crossing_is_told_once_a_period_and_shown_until_the_next_begins(here: Purses) -> None:
    here.at("2026-11-30T12:00:00Z")
    await here.budget(1_000, period="month", warn_percent=50, hard=False)
    assert await here.ceiling() is not None
    for cost in (499, 1, 1, 498, 1, 5):
        await here.spend("g1", cost)
    assert await here.crossings() == [(PROJECT, "soft"), (PROJECT, "hard")]
    shown = await here.ceiling()
    assert shown is not None
    assert (shown.crossed, shown.budget_microeur, shown.period) == ("hard", 1_000, "month")
    assert await rolled(here) == 0
    here.at("2026-12-01T00:00:00Z")
    await here.spend("g1", 600)
    assert await rolled(here) == 1
    shown = await here.ceiling()
    assert shown is not None
    assert shown.crossed == "soft"
    assert await here.crossings() == [(PROJECT, "soft"), (PROJECT, "hard"), (PROJECT, "soft")]
    here.at("2027-01-01T00:00:00Z")
    assert (await rolled(here), await rolled(here)) == (1, 0)
    shown = await here.ceiling()
    assert shown is not None
    assert shown.crossed == "none"
    assert (await here.seen())[PROJECT].spent_microeur == 0


async def test_the_last_hundredth_that_is_asked_for_in_vain_crosses_a_hard_budget(here: Purses) -> None:
    await here.budget(EURO)
    while (lease := await here.renew("g1", wanted_microeur=EURO)).left_microeur:
        pass
    here.clock.move(1)
    await here.renew("g2", wanted_microeur=1)
    assert await here.crossings() == [], "it is held, not spent"
    await here.spend("g1", 995_000)
    await here.renew("g2", wanted_microeur=1)
    await here.renew("g2", wanted_microeur=1)
    assert lease.granted_microeur == EURO
    assert await here.crossings() == [(PROJECT, "soft"), (PROJECT, "hard")]
    assert (await here.seen())[PROJECT].crossed == "hard"


async def test_a_changed_budget_is_judged_anew_and_a_deleted_one_bounds_nothing(here: Purses) -> None:
    first = await here.budget(1_000, hard=False)
    await here.spend("g1", 900)
    again = await here.budget(1_000, hard=False)
    assert (again.generation, again.id, again.crossed) == (1, first.id, "soft")
    raised = await here.budget(10_000, hard=False, generation=1)
    assert (raised.generation, raised.crossed) == (2, "none")
    await here.budget(100, hard=False)
    assert await here.crossings() == [(PROJECT, "soft"), (PROJECT, "hard")]
    stale = await here.ask(
        SetBudget, scope_kind="project", scope=PROJECT, amount_microeur=Wide(1), generation=1
    )
    assert (stale.status, stale.code) == (412, "generation_mismatch")
    shown = await here.ceiling()
    gone = await here.ask(DeleteBudget, budget=first.id)
    assert (gone.id, gone.amount_microeur) == (first.id, 100)
    assert (await here.ceiling(), await here.seen()) == (None, {})
    assert (await here.ask(DeleteBudget, budget=first.id)).code == "budget_not_found"
    anew = await here.budget(100, hard=False)
    later = await here.ceiling()
    assert anew.id != first.id
    assert anew.spent_microeur == 900
    assert shown is not None
    assert later is not None
    assert later.generation > shown.generation


async def test_what_gateways_held_of_a_deleted_budget_is_still_held_when_there_is_one_again(
    here: Purses,
) -> None:
    budget = await here.budget(EURO)
    await here.renew("g1", wanted_microeur=400_000)
    await here.ask(DeleteBudget, budget=budget.id)
    here.clock.move(1)
    await here.spend("g1", 100_000)
    await here.budget(EURO)
    await here.spend("g1", 100_000)
    seen = (await here.seen())[PROJECT]
    # What it admitted while nothing bound it freed nothing of what it may still spend.
    assert (seen.spent_microeur, seen.leased_microeur) == (200_000, 400_000)


async def test_a_tenant_sees_its_projects_budget_and_those_of_its_keys_once_a_line_says_whose_they_are(
    here: Purses,
) -> None:
    theirs = test_id("key", "theirs")
    for kind, scope in (
        ("project", PROJECT),
        ("key", KEY),
        ("key", theirs),
        ("organization", ORGANIZATION),
        ("endpoint", ENDPOINT),
    ):
        await here.budget(EURO, scope, kind)
    assert set(await here.seen(TENANT)) == {PROJECT}
    await here.bill("g1", here.row(1), here.row(1, project=OTHER, key_id=theirs))
    assert set(await here.seen(TENANT)) == {PROJECT, KEY, ENDPOINT}
    assert len(await here.seen()) == 5
    nobody = msgspec.structs.replace(TENANT, project=None)
    assert await here.seen(nobody) == {}


async def test_a_project_is_meant_by_its_name_and_what_nobody_knows_is_refused(here: Purses) -> None:
    await here.admitted(OTHER, "other")
    for text in ("other", "acme/other", OTHER):
        assert (await here.budget(EURO, text)).scope_id == OTHER
    assert (await here.budget(EURO, "acme", "organization")).scope_id == ORGANIZATION
    await here.admitted(test_id("project", "third"), "other", "umbrella")
    asked = {"scope_kind": "project", "amount_microeur": Wide(1)}
    assert (await here.ask(SetBudget, scope="other", **asked)).code == "project_ambiguous"
    assert (await here.ask(SetBudget, scope="nobody", **asked)).code == "project_not_found"
    refused = await here.ask(SetBudget, scope="k", scope_kind="key", amount_microeur=Wide(1))
    assert (refused.status, refused.code) == (404, "key_not_found")
    huge = await here.ask(SetBudget, scope=OTHER, scope_kind="project", amount_microeur=Wide(2**60))
    assert (huge.status, huge.code, huge.param) == (422, "invalid_amount", "amount_microeur")


async def test_the_bucket_is_rebuilt_with_marks_and_ceilings(here: Purses) -> None:
    await here.budget(1_000)
    await here.limit(KEY, "key", requests_per_minute=5)
    await here.spend("g1", 900)
    async with here.store.transaction() as tx:
        shown = await all_shown(tx)
    assert set(shown) == {"producer.g1", f"ceiling.{PROJECT}", f"ceiling.{KEY}"}
    assert shown[f"ceiling.{PROJECT}"] == await here.ceiling()
    assert shown[f"ceiling.{KEY}"] == await here.ceiling(KEY)
