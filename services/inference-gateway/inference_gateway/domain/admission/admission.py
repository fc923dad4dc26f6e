"""Whether a request comes in: everything is checked before anything is taken, and nothing is waited for."""

from collections import deque
from collections.abc import Callable
from datetime import datetime
from itertools import islice

import msgspec
from mesh_contracts.metering import LEASES_MAX, Ceiling, Leases, LeaseWish

from inference_gateway.domain.admission.estimate import Estimate
from inference_gateway.domain.admission.gcra import MINUTE_NS
from inference_gateway.domain.admission.held import Held, Known, Scopes
from inference_gateway.domain.admission.left import said_left
from inference_gateway.domain.admission.money import PriceBook
from inference_gateway.domain.admission.refusals import BEAT_MS, SOON_MS
from inference_gateway.domain.admission.scope import Scope, Taken
from inference_gateway.domain.faults import Fault

LEASE_S = 5.0
"""How long a lease is taken to stand before the first has said so."""

FORMER_MAX = 4_096
"""Scopes remembered that have no ceiling any more but had money in this epoch."""

BOUND_MAX = 4_096
"""Callers and models whose scopes are remembered at once."""


class Admission:
    """Limits and hard budgets of every scope that has a ceiling; the bound of its memory is their number.

    ``scopes``: those in the bucket, and up to ``FORMER_MAX`` that were. ``urgent`` is called where the
    next lease should not wait for its turn.
    """

    def __init__(self, urgent: Callable[[], None] = lambda: None) -> None:
        self.urgent = urgent
        self.lease_s = LEASE_S
        self._soon_ms = SOON_MS
        self._known = Known()
        self._scopes = self._known.scopes
        self._bound: dict[Scopes, list[Scope]] = {}
        self._former: dict[str, Scope] = {}
        self._forgot = False
        self._needy: dict[Scope, None] = {}
        self._touched: dict[Scope, None] = {}
        self._ring: deque[Scope] = deque()

    def heed(self, scope_id: str, ceiling: Ceiling | None) -> None:
        """Learn a scope's ceiling, or (``None``) that it has none any more."""
        scope = self._scopes.get(scope_id)
        if ceiling is None:
            if scope is not None:
                self._forget(scope)
            return
        if scope is None:
            scope = self._former.pop(scope_id, None)
            if scope is None:
                scope = Scope(ceiling, suspect=self._forgot)
            self._scopes[scope_id] = scope
            self._bound.clear()
            self._ring.append(scope)
        scope.heed(ceiling)
        if scope.leases:
            self._need(scope)

    def take(self, leases: Leases, asked_at: float) -> None:
        """Go by what metering answered to an ask that was sent at ``asked_at`` (monotonic)."""
        self.lease_s = leases.lease_ms / 1000
        self._soon_ms = SOON_MS
        if leases.prices != self._known.prices.prices:
            self._known.prices = PriceBook(leases.prices)
        for lease in leases.items:
            scope = self._scopes.get(lease.scope_id)
            if scope is not None:
                before = scope.account
                scope.lease(lease, asked_at, asked_at + self.lease_s, alone=leases.gateways == 1)
                self._known.opened += scope.account is not before

    def unanswered(self) -> None:
        """Send nobody back at once, from now on: metering does not answer; asking faster would not help it."""
        self._soon_ms = BEAT_MS

    def admit(
        self,
        *,
        scopes: Scopes,
        model: str,
        estimate: Estimate,
        now: float,
        at: datetime,
    ) -> Held | Fault:
        """Count a request in at each of its scopes; or say why not, and take nothing.

        ``now`` is monotonic; ``at`` is when the request started, in the words of its row: by it the
        ledger finds the price and the period.
        """
        bound = self._bound.get(scopes)
        if bound is None:
            bound = self._bind(scopes)
        if not bound:
            return Held(self._known, (scopes, model, at), estimate, [], 0)
        tokens = estimate.prompt_tokens + estimate.answer_tokens
        raw = tokens * MINUTE_NS
        now_ns = int(now * 1e9)
        cost = self._known.prices.cost(model, estimate.prompt_tokens, estimate.answer_tokens, at)
        for scope in bound:
            if not scope.fits(raw, cost, now_ns, now, at):
                return self._refuse(bound, estimate, cost, now, at)
        entries: list[Taken] = []
        for scope in bound:
            entries.append(scope.take(tokens, raw, cost or 0))
            if not scope.touched:
                self._touch(scope)
        return Held(self._known, (scopes, model, at), estimate, entries, cost or 0)

    def wishes(self, now: float, at: datetime) -> list[LeaseWish]:
        """Return what to ask for: those in need first, then those in use, then the idle in turn."""
        chosen = dict.fromkeys(islice(self._needy, LEASES_MAX))
        chosen.update(dict.fromkeys(islice(self._touched, LEASES_MAX - len(chosen))))
        for _ in range(len(self._ring)):
            if len(chosen) >= LEASES_MAX:
                break
            self._ring.rotate(-1)
            chosen[self._ring[-1]] = None
        for scope in chosen:
            self._leave_line(scope)
        return [scope.wish(now, at, self.lease_s) for scope in chosen if scope.leases]

    @property
    def waiting(self) -> bool:
        """Whether scopes in need or in use did not get into the last wishes."""
        return bool(self._needy or self._touched)

    def _bind(self, scopes: Scopes) -> list[Scope]:
        """Return those of a request's scopes that have a ceiling, and remember them until any ceiling comes or goes."""
        if len(self._bound) >= BOUND_MAX:
            self._bound.clear()
        found = [scope for scope in map(self._scopes.get, scopes) if scope is not None]
        self._bound[scopes] = found
        return found

    def _need(self, scope: Scope) -> None:
        self._needy[scope] = None
        self.urgent()

    def _touch(self, scope: Scope) -> None:
        scope.touched = True
        self._touched[scope] = None

    def _leave_line(self, scope: Scope) -> None:
        scope.touched = False
        self._needy.pop(scope, None)
        self._touched.pop(scope, None)

    def _forget(self, scope: Scope) -> None:
        del self._scopes[scope.id]
        self._bound.clear()
        self._leave_line(scope)
        self._ring.remove(scope)
        if scope.account is None or not scope.account.granted:
            return
        # What was granted in this epoch counts on, should the ceiling come back.
        self._former[scope.id] = scope
        if len(self._former) > FORMER_MAX:
            del self._former[next(iter(self._former))]
            self._forgot = True

    def _refuse(
        self,
        bound: list[Scope],
        estimate: Estimate,
        cost: int | None,
        now: float,
        at: datetime,
    ) -> Fault:
        """Return the refusal that lasts longest; note at each scope that refuses that more was wished for."""
        worst: Fault | None = None
        for scope in bound:
            refused = False
            for fault, urgent in scope.refusals(estimate, cost, now, at, self._soon_ms):
                refused = True
                if urgent:
                    self._need(scope)
                if worst is None or _lasts(fault) > _lasts(worst):
                    worst = fault
            if refused:
                scope.demand.refused(estimate.tokens, scope.active + 1)
                self._touch(scope)
        assert worst is not None, "what does not fit has a reason"
        return msgspec.structs.replace(worst, headers=said_left(bound, now))


def _lasts(fault: Fault) -> tuple[bool, int]:
    return fault.should_retry is False, fault.retry_after_ms or 0
