"""Settle intervals: whose the energy is, what carbon that is, told by project."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from mesh_contracts.carbon import Factor, FootprintSettled, Signal
from mesh_contracts.fact import born_of
from mesh_contracts.units import CarbonUg, EnergyUj
from meshkit import semconv
from meshkit.clock import Clock
from meshkit.store import Store, Transaction
from meshkit.telemetry import METRICS, span

from carbon_accounting import store
from carbon_accounting.domain.meter import Interval, cause_of
from carbon_accounting.domain.serving import ceiling_uj
from carbon_accounting.domain.split import NON_SERVING, OPERATOR, carbon_of, divide
from carbon_accounting.grid.factors import factor_on

log = logging.getLogger(__name__)

GRACE_S = 2.0
"""How long lines may take from the gateway through the ledger to here; then an interval is settled.

A line that takes longer is not lost: it is settled with its node's next interval.
"""
TICK_S = 0.5
REQUESTS_MAX = 20_000
"""Requests settled with one interval; further ones are settled with the node's next."""
KEPT_DAYS = 400
"""How long receipts and settled intervals are kept; sums stay."""
PRUNE_EVERY = 7_200
"""Ticks between two prunings: an hour."""
PRUNE_BATCH = 10_000


async def settle_interval(tx: Transaction, interval: Interval, now: datetime) -> int:
    """Settle one interval as a whole; return how many requests it was shared among.

    Its factor is that of the day on which it ended. Without one for the node's place it is held.
    """
    zone = await store.jurisdiction_of(tx, interval.node_id) or "an unknown place"
    factor = factor_on(zone, interval.end_at.date())
    if factor is None:
        await store.hold(
            tx, interval, f"there is no grid factor for {zone} on {interval.end_at.date()}"
        )
        METRICS.count("mesh_carbon_intervals_held_total")
        return 0
    waiting = await store.load_waiting(tx, interval, REQUESTS_MAX)
    division = divide(
        interval.energy_uj,
        interval.idle_uj,
        {item.request_id: item.weight for item in waiting},
        starting_uj=interval.starting_uj,
        ceiling_uj=ceiling_uj(interval, (item.span for item in waiting)),
    )
    by_project: dict[str, list[store.Waiting]] = defaultdict(list)
    for item in waiting:
        by_project[item.project].append(item)
    for project in sorted(by_project):
        await _settle_project(tx, interval, factor, by_project[project], division.shares, now=now)
    for account, energy_uj in ((OPERATOR, division.idle_uj), (NON_SERVING, division.non_serving_uj)):
        carry = await store.load_carry(tx, account, factor.factor_id)
        carbon = carbon_of([energy_uj], factor.carbon_mg_per_kwh, carry)
        await store.book(
            tx,
            account,
            interval,
            factor_id=factor.factor_id,
            requests=0,
            energy_uj=energy_uj,
            carbon_ug=carbon.carbon_ug[0],
            remainder=carbon.remainder,
        )
        tx.after_commit(partial(_count, account, energy_uj, carbon.carbon_ug[0]))
    await store.settle_interval(tx, interval, division, factor_id=factor.factor_id, now=now)
    tx.after_commit(partial(_show, interval, waiting))
    return len(waiting)


async def _settle_project(
    tx: Transaction,
    interval: Interval,
    factor: Factor,
    items: list[store.Waiting],
    shares: dict[str, int],
    *,
    now: datetime,
) -> None:
    first = items[0]
    carry = await store.load_carry(tx, first.project, factor.factor_id)
    energies = [shares[item.request_id] for item in items]
    carbon = carbon_of(energies, factor.carbon_mg_per_kwh, carry)
    settled = [
        store.Share(request_id=item.request_id, energy_uj=energy, carbon_ug=ug)
        for item, energy, ug in zip(items, energies, carbon.carbon_ug, strict=True)
    ]
    await store.settle_requests(tx, interval, settled, factor.factor_id, now)
    energy_uj, carbon_ug = sum(energies), sum(carbon.carbon_ug)
    await store.book(
        tx,
        first.project,
        interval,
        factor_id=factor.factor_id,
        requests=len(items),
        energy_uj=energy_uj,
        carbon_ug=carbon_ug,
        remainder=carbon.remainder,
    )
    tx.after_commit(partial(_count, "requests", energy_uj, carbon_ug))
    scope = {"organization": first.organization, "project": first.project}
    await tx.tell(
        FootprintSettled(
            **born_of(cause_of(interval), now, FootprintSettled, key=first.project, **scope),
            node_id=interval.node_id,
            interval_start=interval.start_at,
            interval_end=interval.end_at,
            requests=len(items),
            energy_uj=EnergyUj(energy_uj),
            carbon_ug=CarbonUg(carbon_ug),
            factor_id=factor.factor_id,
            quality=interval.quality,
        )
    )


def _count(use: str, energy_uj: int, carbon_ug: int) -> None:
    METRICS.count("mesh_carbon_energy_joules_total", energy_uj / 1e6, use=use)
    METRICS.count("mesh_carbon_grams_total", carbon_ug / 1e6, use=use)


def _show(interval: Interval, waiting: list[store.Waiting]) -> None:
    """Put the end of each request's road into the request's own trace."""
    METRICS.count("mesh_carbon_intervals_settled_total")
    METRICS.count("mesh_carbon_requests_settled_total", len(waiting))
    links = [] if interval.traceparent is None else [interval.traceparent]
    for item in waiting:
        if item.traceparent is not None:
            attributes = {semconv.MESH_NODE_ID: interval.node_id}
            with span("footprint.settle", parent=item.traceparent, links=links, attributes=attributes):
                pass


async def signals(tx: Transaction, *, site: str, zone: str) -> dict[str, Signal]:
    """Return the whole bucket ``signals``: the factor in force at the site."""
    factor = factor_on(zone, tx.now.date())
    if factor is None:
        return {}
    return {f"intensity.{site}": Signal(site=site, factor=factor, at=tx.now)}


class Settler:
    """Settles what is due, twice a second; puts a new signal when the factor in force changes."""

    def __init__(self, site: str, zone: str, clock: Clock, opened: Callable[[], Store]) -> None:
        self._site = site
        self._zone = zone
        self._clock = clock
        self._opened = opened
        self._in_force: str | None = None
        self._ticks = 0

    async def run(self) -> None:
        """Settle until cancelled. What was held is tried again at each start."""
        async with self._opened().transaction() as tx:
            await store.release_held(tx)
        while True:
            await self.tick()
            await asyncio.sleep(TICK_S)

    async def tick(self) -> int:
        """Settle every interval that is due; return how many."""
        settled = 0
        while await self._settle_next():
            settled += 1
        await self._signal()
        self._ticks += 1
        if self._ticks % PRUNE_EVERY == 0:
            await self.forget(self._clock.now() - timedelta(days=KEPT_DAYS))
        return settled

    async def forget(self, before: datetime) -> None:
        """Forget what ended before, a bounded number of rows at a time."""
        for some in (store.forget_requests, store.forget_intervals):
            gone = PRUNE_BATCH
            while gone == PRUNE_BATCH:
                async with self._opened().transaction() as tx:
                    gone = await some(tx, before, PRUNE_BATCH)

    async def _settle_next(self) -> bool:
        now = self._clock.now()
        async with self._opened().transaction() as tx:
            await store.one_at_a_time(tx)
            interval = await store.next_interval(tx, now - timedelta(seconds=GRACE_S))
            if interval is None:
                return False
            requests = await settle_interval(tx, interval, now)
        log.debug("settled an interval of %s among %d requests", interval.node_id, requests)
        return True

    async def _signal(self) -> None:
        factor = factor_on(self._zone, self._clock.now().date())
        in_force = None if factor is None else factor.factor_id
        if in_force == self._in_force:
            return
        async with self._opened().transaction() as tx:
            for key, signal in (await signals(tx, site=self._site, zone=self._zone)).items():
                await tx.put("signals", key, signal)
        self._in_force = in_force
