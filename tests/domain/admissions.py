"""What the tests of admission share: scopes, ceilings, leases, requests."""

from datetime import datetime, timedelta
from typing import Any

from inference_gateway.domain.admission import Admission, Estimate, Held
from inference_gateway.domain.faults import Fault
from mesh_contracts.metering import Ceiling, Lease, Leases, Price
from mesh_contracts.units import MoneyMicroeur
from meshkit.testing import NOW

SCOPES = ("organization_1", "project_1", "key_1", "endpoint_1")
DAY_START = NOW - timedelta(hours=12)
DAY_END = NOW + timedelta(hours=12)

PRICE = Price(
    price_id="price_1",
    model="*",
    price_microeur_per_mtoken_in=1_000_000,
    price_microeur_per_mtoken_out=3_000_000,
    valid_from=NOW - timedelta(days=30),
)
"""A micro-euro a token of prompt, three a token of answer."""


def ceiling(scope_id: str = "project_1", **fields: Any) -> Ceiling:
    kind: Any = scope_id.partition("_")[0]
    return Ceiling(scope_id=scope_id, scope_kind=kind, **fields)


def budget(scope_id: str = "project_1", amount: int = 1_000, **fields: Any) -> Ceiling:
    told = {"hard": True, "period": "day", **fields}
    return ceiling(scope_id, budget_microeur=MoneyMicroeur(amount), **told)


def lease(scope_id: str = "project_1", **fields: Any) -> Lease:
    return Lease(scope_id=scope_id, **fields)


def money(scope_id: str = "project_1", granted: int = 1_000, **fields: Any) -> Lease:
    told = {"left_microeur": 10, "period_start": DAY_START, "period_end": DAY_END, **fields}
    return lease(scope_id, granted_microeur=granted, **told)


def leases(*items: Lease, prices: list[Price] | None = None, lease_ms: int = 5_000) -> Leases:
    book = [PRICE] if prices is None else prices
    return Leases(items=list(items), lease_ms=lease_ms, gateways=1, prices=book)


def estimate(prompt: int = 10, answer: int = 10) -> Estimate:
    return Estimate(prompt_tokens=prompt, answer_tokens=answer)


def asked(
    admission: Admission,
    prompt: int = 10,
    answer: int = 10,
    *,
    now: float = 100.0,
    at: datetime = NOW,
    model: str = "chat",
) -> Held | Fault:
    return admission.admit(
        scopes=SCOPES, model=model, estimate=estimate(prompt, answer), now=now, at=at
    )


def held(admission: Admission, prompt: int = 10, answer: int = 10, **when: Any) -> Held:
    got = asked(admission, prompt, answer, **when)
    assert isinstance(got, Held), got
    return got


def refused(admission: Admission, prompt: int = 10, answer: int = 10, **when: Any) -> Fault:
    got = asked(admission, prompt, answer, **when)
    assert isinstance(got, Fault), got
    return got


def left(admission: Admission, scope_id: str = "project_1") -> Any:
    """Return everything that admission goes by at a scope, to be compared."""
    scope = admission._known.scopes[scope_id]
    account = scope.account
    return (
        scope.active,
        scope.requests.raw if scope.requests else None,
        scope.tokens.raw if scope.tokens else None,
        (account.at_hand, account.reserved, account.returned, account.granted) if account else None,
    )
