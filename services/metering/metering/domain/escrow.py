"""Money that is lent before it is spent, so that a hard budget is never passed.

What a scope has spent, and what gateways hold of it and may spend any moment, never exceed its amount
when money is granted. A line that costs what its gateway had reserved moves money from held to spent
and changes nothing of their sum: settled spend stays below the amount, also where a gateway dies with
what it holds. That stays held until its lines have come and it says so, or the period ends.
"""

from datetime import datetime

import msgspec

from metering.domain.scopes import Crossed, Scope

GRANT_FLOOR_MICROEUR = 100_000
"""Up to this much is granted at one time, however little is left for others: the last money can be used."""

UNUSABLE_PERCENT = 1
"""Less than this part of a hard budget, and less than the floor, counts as nothing when asked for in vain."""

RANK: dict[Crossed, int] = {"none": 0, "soft": 1, "hard": 2}


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What one gateway holds of one scope in one period, since one start of it.

    Requests that started after ``since`` (the gateway's own clock) were reserved from it: then it
    asked for money, and so knew that it needs some. ``hardened`` is the scope's when it did.
    """

    scope_id: str
    period_start: datetime
    producer: str
    epoch: int
    since: datetime
    hardened: int
    granted: int = 0
    returned: int = 0
    charged: int = 0

    @property
    def outstanding(self) -> int:
        """What may be spent any moment."""
        left = self.granted - self.returned - self.charged
        assert left >= 0, "nobody spends or returns more than it was granted"
        return left

    def covers(self, scope: Scope, started_at: datetime) -> bool:
        """Tell whether a request was reserved from this: only then does its line free what was held.

        In doubt (it started at ``since``) it was not: a little stays held, and nothing is spent twice.
        """
        return scope.escrowed and self.hardened == scope.hardened and self.since < started_at


def charge(account: Account, cost: int) -> Account:
    """Return the account once a line of ``cost`` stands in the ledger; it never falls below nothing."""
    paid = min(cost, account.outstanding)
    return msgspec.structs.replace(account, charged=account.charged + paid)


def give_back(account: Account, told: int) -> Account:
    """Return the account once its gateway has said that it gave ``told`` back, in all.

    A smaller number than before is an older ask that comes late.
    """
    returned = max(account.returned, min(told, account.granted - account.charged))
    return msgspec.structs.replace(account, returned=returned)


def release(account: Account) -> Account:
    """Return the account once somebody has said that its gateway will never spend what it holds."""
    return give_back(account, account.granted)


def left_of(amount: int, spent: int, held: int) -> int:
    """Return what nobody has spent or holds; a lowered amount leaves nothing, never less."""
    return max(0, amount - spent - held)


def grant(*, amount: int, spent: int, held: int, wanted: int, gateways: int) -> int:
    """Return how much a gateway is granted of what it wants: never more than what nobody holds.

    It gets half of its equal part of what is left, so that others find something, or up to
    ``GRANT_FLOOR_MICROEUR``. ``held`` is what all gateways hold, dead ones included.
    """
    left = left_of(amount, spent, held)
    given = min(wanted, left, max(left // (2 * gateways), GRANT_FLOOR_MICROEUR))
    assert given == 0 or spent + held + given <= amount, "what is spent and held stays in the amount"
    return given


def lend(account: Account, given: int, *, asked_at: datetime, hardened: int) -> Account:
    """Return the account with ``given`` more in it; opened anew where the budget became hard since."""
    granted = account.granted + given
    if account.hardened != hardened:
        return msgspec.structs.replace(account, granted=granted, since=asked_at, hardened=hardened)
    return msgspec.structs.replace(account, granted=granted)


def renew(
    scope: Scope,
    mine: Account,
    *,
    spent: int,
    others: int,
    wanted: int,
    gateways: int,
    asked_at: datetime,
) -> tuple[Account, int]:
    """Return a gateway's account with what it is granted, and what nobody holds then.

    ``others`` is what all other accounts of the scope and period hold.
    """
    assert scope.escrowed, "a soft budget needs no money held"
    amount = scope.amount_microeur
    assert amount is not None, "a budget has an amount"
    held = others + mine.outstanding
    given = grant(amount=amount, spent=spent, held=held, wanted=wanted, gateways=gateways)
    left = left_of(amount, spent, held + given)
    return lend(mine, given, asked_at=asked_at, hardened=scope.hardened) if given else mine, left


def crossed(scope: Scope, spent: int, *, in_vain: bool = False) -> Crossed:
    """Return how far a scope's spend has come.

    ``hard`` where it has reached the amount; or, of a hard budget, where a gateway asked for money
    ``in_vain`` (all is spent or held) and what is not spent is less than ``UNUSABLE_PERCENT`` of the
    amount and less than the floor of a grant: too little to serve from. Money that is merely held
    crosses nothing, however much it is. ``soft`` where it has reached ``warn_percent``.
    """
    amount = scope.amount_microeur
    assert amount is not None, "only a budget is crossed"
    unspent = amount - spent
    if unspent <= 0:
        return "hard"
    unusable = unspent * 100 < amount * UNUSABLE_PERCENT and unspent < GRANT_FLOOR_MICROEUR
    if scope.hard and in_vain and unusable:
        return "hard"
    return "soft" if spent * 100 >= amount * scope.warn_percent else "none"


def further(before: Crossed, now: Crossed) -> Crossed:
    """Return the further of two states: within a period and a budget's generation none is taken back."""
    return max(before, now, key=RANK.__getitem__)
