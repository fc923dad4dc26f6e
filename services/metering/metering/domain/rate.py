"""What usage costs: integers only, rounded once on the line, the remainder carried to the next line.

A price is micro-euros a million tokens, so a line's exact cost is a number of millionths of a
micro-euro. Each line takes the whole micro-euros of its exact cost and of what earlier lines of the same
project and price left over: the lines' sum is the exact sum, rounded down once.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
from mesh_contracts.inference import UsageRow
from mesh_contracts.metering import Price, RatedRow
from mesh_contracts.units import MoneyMicroeur

TOKENS_PER_PRICE = 1_000_000
DEFAULT_MODEL = "*"

Debtor = tuple[str, str]
"""A project's id and a price's id: what a remainder belongs to."""


class Rated(msgspec.Struct, frozen=True):
    """Lines in the order of the rows, and what each (project, price) has left over now."""

    lines: list[RatedRow]
    remainders: dict[Debtor, int]


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """What one project used of one model, over some lines."""

    organization: str
    project: str
    model: str
    interval_start: datetime
    interval_end: datetime
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_microeur: int


def fresh(rows: Iterable[UsageRow], known: Collection[str]) -> list[UsageRow]:
    """Return the rows whose request stands in no line yet, each request once."""
    first: dict[str, UsageRow] = {}
    for row in rows:
        if row.request_id not in known:
            first.setdefault(row.request_id, row)
    return list(first.values())


def price_for(book: Sequence[Price], model: str, at: datetime) -> Price:
    """Return the price of ``model`` in force at ``at``: its own, else the default's.

    The book always holds a default that is older than any request.
    """
    in_force = [one for one in book if one.valid_from <= at]
    for wanted in (model, DEFAULT_MODEL):
        of_model = [one for one in in_force if one.model == wanted]
        if of_model:
            return max(of_model, key=lambda one: (one.valid_from, one.price_id))
    raise AssertionError(f"the price book holds no default at {at}")


def exact_cost(row: UsageRow, price: Price) -> int:
    """Return a row's cost in millionths of a micro-euro; tokens that nobody counted cost nothing."""
    return (row.prompt_tokens or 0) * price.price_microeur_per_mtoken_in + (
        row.completion_tokens or 0
    ) * price.price_microeur_per_mtoken_out


def rate(rows: Sequence[UsageRow], book: Sequence[Price], owed: Mapping[Debtor, int]) -> Rated:
    """Return the ledger lines of ``rows``. ``owed`` are the remainders; one that is absent is 0.

    A request is priced by what was in force when it started, whatever its state: what was delivered
    is paid.
    """
    remainders: dict[Debtor, int] = {}
    lines = []
    for row in rows:
        price = price_for(book, row.model, row.started_at)
        debtor = (row.project, price.price_id)
        left = remainders.get(debtor, owed.get(debtor, 0))
        assert 0 <= left < TOKENS_PER_PRICE, "a remainder is less than a micro-euro"
        cost, remainders[debtor] = divmod(exact_cost(row, price) + left, TOKENS_PER_PRICE)
        lines.append(RatedRow(usage=row, cost_microeur=MoneyMicroeur(cost), price_id=price.price_id))
    return Rated(lines, remainders)


def summed(lines: Iterable[RatedRow]) -> list[Sum]:
    """Return the lines' sums by project and model, in the order of their first lines."""
    groups: dict[tuple[str, str, str], list[RatedRow]] = {}
    for line in lines:
        usage = line.usage
        groups.setdefault((usage.organization, usage.project, usage.model), []).append(line)
    return [_sum(*of, lines) for of, lines in groups.items()]


def uncounted(row: UsageRow) -> bool:
    """Tell whether nobody knows how many tokens a request took: it costs nothing for what is unknown.

    What no replica was asked took none.
    """
    return row.attempts > 0 and (row.prompt_tokens is None or row.completion_tokens is None)


def _sum(organization: str, project: str, model: str, lines: list[RatedRow]) -> Sum:
    return Sum(
        organization=organization,
        project=project,
        model=model,
        interval_start=min(line.usage.started_at for line in lines),
        interval_end=max(line.usage.ended_at for line in lines),
        requests=len(lines),
        prompt_tokens=sum(line.usage.prompt_tokens or 0 for line in lines),
        completion_tokens=sum(line.usage.completion_tokens or 0 for line in lines),
        cost_microeur=sum(line.cost_microeur for line in lines),
    )
