"""Leases are renewed ahead of need, at once where something is urgent, and again after metering was away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from inference_gateway.domain.admission import Admission, Estimate, Held
from inference_gateway.domain.faults import Fault
from inference_gateway.leasing import Leasing
from mesh_contracts.ask import Principal, Problem
from mesh_contracts.metering import Ceiling, Lease, Leases, Price, RenewLeases
from mesh_contracts.units import DEFAULT_SITE, MoneyMicroeur
from meshkit.answering import serve
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshkit.telemetry import METRICS
from meshkit.testing import NOW, test_id

from tests.servers_nats import Connect

PROJECT = test_id("project", "leased")
BUDGET = Ceiling(
    scope_id=PROJECT, scope_kind="project", budget_microeur=MoneyMicroeur(9_000), hard=True
)
PRICE = Price(
    price_id="price_1",
    model="*",
    price_microeur_per_mtoken_in=1_000_000,
    price_microeur_per_mtoken_out=1_000_000,
    valid_from=NOW,
)


class Metering:
    """The other side: grants what is wished for, and notes what it heard."""

    def __init__(self) -> None:
        self.heard: list[RenewLeases] = []
        self.by: list[Principal] = []
        self.granted = 0
        self.broken = False

    async def __call__(self, ask: RenewLeases, by: Principal) -> Leases | Problem:
        self.heard.append(ask)
        self.by.append(by)
        if self.broken:
            return Problem(title="No", status=503, code="unavailable", detail="later")
        items = []
        for wish in ask.wishes:
            self.granted += wish.wanted_microeur
            items.append(
                Lease(
                    scope_id=wish.scope_id,
                    granted_microeur=self.granted,
                    left_microeur=100,
                    period_start=NOW,
                )
            )
        return Leases(items=items, lease_ms=60_000, gateways=1, prices=[PRICE])


@asynccontextmanager
async def renewing(admission: Admission, bus: Bus) -> AsyncIterator[None]:
    leasing = Leasing(admission, producer="producer_1", epoch=7, settled_below=lambda: 5)
    task = asyncio.create_task(leasing.run(bus))
    try:
        yield
    finally:
        assert not task.done(), "the loop goes on whatever happens"
        task.cancel()
        await asyncio.wait({task})


def asked(admission: Admission, tokens: int = 100) -> Held | Fault:
    clock = SystemClock()
    return admission.admit(
        scopes=("organization_1", PROJECT, "key_1", "endpoint_1"),
        model="chat",
        estimate=Estimate(prompt_tokens=tokens, answer_tokens=0),
        now=clock.monotonic(),
        at=clock.now(),
    )


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


async def test_a_new_ceiling_is_leased_by_whom_the_journal_says(bus: Bus, connect: Connect) -> None:
    metering, admission = Metering(), Admission()
    served = await serve(await connect("metering"), "metering", DEFAULT_SITE, {RenewLeases: metering})
    async with renewing(admission, bus):
        assert not metering.heard
        admission.heed(PROJECT, BUDGET)
        fault = asked(admission)
        assert isinstance(fault, Fault)
        assert fault.code == "budget_unconfirmed"
        await until(lambda: metering.granted)
        await until(lambda: isinstance(asked(admission), Held))
    ask, by = metering.heard[0], metering.by[0]
    assert (ask.producer, ask.epoch, ask.settled_below) == ("producer_1", 7, 5)
    assert [wish.scope_id for wish in ask.wishes] == [PROJECT]
    assert (by.principal_id, by.role) == ("producer_1", "service")
    await served.stop()


async def test_without_a_ceiling_nobody_is_asked_and_with_one_again_and_again(
    bus: Bus, connect: Connect, monkeypatch: Any
) -> None:
    monkeypatch.setattr("inference_gateway.leasing.RENEW_EVERY_S", 0.01)
    metering, admission = Metering(), Admission()
    served = await serve(await connect("metering"), "metering", DEFAULT_SITE, {RenewLeases: metering})
    async with renewing(admission, bus):
        await asyncio.sleep(0.05)
        assert metering.heard == []
        admission.heed(PROJECT, BUDGET)
        await until(lambda: len(metering.heard) >= 3)
    await served.stop()


async def test_metering_that_was_away_is_asked_until_it_is_back(
    bus: Bus, connect: Connect, monkeypatch: Any
) -> None:
    monkeypatch.setattr("inference_gateway.leasing.RENEW_EVERY_S", 0.02)
    metering, admission = Metering(), Admission()
    METRICS.clear()
    admission.heed(PROJECT, BUDGET)

    def failed() -> float:
        return METRICS.value("mesh_gateway_lease_renewals_total", outcome="unavailable")

    async with renewing(admission, bus):
        await until(lambda: failed() >= 2)
        metering.broken = True
        served = await serve(
            await connect("metering"), "metering", DEFAULT_SITE, {RenewLeases: metering}
        )
        await until(lambda: metering.heard)
        assert isinstance(asked(admission), Fault)
        metering.broken = False
        await until(lambda: isinstance(asked(admission), Held))
    await served.stop()


async def test_a_mistake_of_our_own_does_not_end_the_renewals(
    bus: Bus, connect: Connect, monkeypatch: Any
) -> None:
    monkeypatch.setattr("inference_gateway.leasing.RENEW_EVERY_S", 0.01)
    metering, admission = Metering(), Admission()
    METRICS.clear()
    served = await serve(await connect("metering"), "metering", DEFAULT_SITE, {RenewLeases: metering})
    whole = admission.wishes

    def wrong(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(admission, "wishes", wrong)
    async with renewing(admission, bus):
        await until(lambda: METRICS.value("mesh_gateway_lease_renewals_total", outcome="failed"))
        monkeypatch.setattr(admission, "wishes", whole)
        admission.heed(PROJECT, BUDGET)
        await until(lambda: metering.heard)
    await served.stop()


async def test_more_scopes_than_one_ask_names_are_all_renewed_in_one_turn(
    bus: Bus, connect: Connect
) -> None:
    metering, admission = Metering(), Admission()
    for number in range(450):
        scope = test_id("key", str(number))
        admission.heed(scope, Ceiling(scope_id=scope, scope_kind="key", requests_per_minute=60))
    served = await serve(await connect("metering"), "metering", DEFAULT_SITE, {RenewLeases: metering})
    async with renewing(admission, bus):
        admission.urgent()
        await until(lambda: len(metering.heard) >= 3)
    first = {wish.scope_id for ask in metering.heard[:3] for wish in ask.wishes}
    assert len(first) == 450
    await served.stop()
