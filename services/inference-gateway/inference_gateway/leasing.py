"""The loop that renews leases ahead of need, beside the hot path: metering may be away, requests go on."""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta

from mesh_contracts.ask import Principal, Problem
from mesh_contracts.metering import Leases, RenewLeases
from meshkit.bus import Bus
from meshkit.telemetry import METRICS

from inference_gateway.domain.admission import Admission

RENEW_EVERY_S = 1.0

URGENT_AFTER_S = 0.01
"""How long what is urgent waits for others to travel with."""

AGAIN_AFTER_S = 0.25
"""How long the next ask waits after one without an answer, whatever is urgent."""

ASK_WITHIN_S = 3.0
"""How long an answer is waited for; what is granted in one that comes later is told by the next.

Longer than a busy machine takes: where every answer came too late, no lease would ever be had.
"""

ASKS_MAX = 5
"""Asks in one turn, each for ``LEASES_MAX`` scopes; others wait for the next."""

PRINCIPAL_S = 60.0
"""How long one proof of who asks is valid."""

log = logging.getLogger(__name__)


class Leasing:
    """Asks metering for leases: every ``RENEW_EVERY_S``, and at once where something is urgent."""

    def __init__(
        self,
        admission: Admission,
        *,
        producer: str,
        epoch: int,
        settled_below: Callable[[], int],
    ) -> None:
        self._admission = admission
        self._producer = producer
        self._epoch = epoch
        self._settled_below = settled_below
        self._urgent = asyncio.Event()
        self._silent = False
        admission.urgent = self._urgent.set

    async def run(self, bus: Bus) -> None:
        """Renew until cancelled."""
        while True:
            await self._wait()
            try:
                await self._renew(bus)
            except Exception:
                # Our own mistake must not end it: without leases nobody spends.
                METRICS.count("mesh_gateway_lease_renewals_total", outcome="failed")
                log.exception("leases were not renewed")

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(RENEW_EVERY_S):
                await self._urgent.wait()
        except TimeoutError:
            return
        await asyncio.sleep(AGAIN_AFTER_S if self._silent else URGENT_AFTER_S)

    async def _renew(self, bus: Bus) -> None:
        self._urgent.clear()
        for _ in range(ASKS_MAX):
            if not await self._ask(bus) or not self._admission.waiting:
                return

    async def _ask(self, bus: Bus) -> bool:
        """Ask once; false where there was nothing to ask for, or no lease came of it."""
        asked_at, now = bus.clock.monotonic(), bus.clock.now()
        wishes = self._admission.wishes(asked_at, now)
        if not wishes:
            return False
        by = Principal(
            principal_id=self._producer,
            role="service",
            expires_at=now + timedelta(seconds=PRINCIPAL_S),
        )
        answer = await bus.ask(
            RenewLeases(
                **bus.wish(by, timeout_s=ASK_WITHIN_S),
                producer=self._producer,
                epoch=self._epoch,
                settled_below=self._settled_below(),
                wishes=wishes,
            )
        )
        if not isinstance(answer, Leases):
            self._unanswered(answer)
            return False
        self._admission.take(answer, asked_at)
        METRICS.count("mesh_gateway_lease_renewals_total", outcome="renewed")
        METRICS.set("mesh_gateway_leases", len(answer.items))
        if self._silent:
            self._silent = False
            log.info("leases are renewed again")
        return True

    def _unanswered(self, problem: Problem) -> None:
        METRICS.count("mesh_gateway_lease_renewals_total", outcome=problem.code)
        self._admission.unanswered()
        if not self._silent:
            self._silent = True
            log.warning(
                "leases are not renewed; limits go on with the last shares, hard budgets refuse once their "
                "leases end: %s",
                problem.detail,
            )
