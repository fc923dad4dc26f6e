"""What a request costs at most, and what is left of the money that was leased for one period."""

from collections.abc import Sequence
from datetime import UTC, datetime

from mesh_contracts.metering import Price

TOKENS_PER_PRICE = 1_000_000
DEFAULT_MODEL = "*"
KNOWN_MAX = 4_096
"""Models whose price in force is remembered; then it is looked up anew."""

FOREVER = datetime.max.replace(tzinfo=UTC)


class PriceBook:
    """The price of a model in force at a time: its own, else the default's; as the ledger has it."""

    __slots__ = ("_known", "prices")

    def __init__(self, prices: Sequence[Price] = ()) -> None:
        self.prices = prices
        self._known: dict[str, tuple[datetime, datetime, int, int]] = {}

    def cost(self, model: str, prompt: int, answer: int, at: datetime) -> int | None:
        """Return micro-euros, rounded up; nothing where no price is known.

        The ledger carries remainders from line to line, so that a line is at most that much.
        """
        known = self._known.get(model)
        if known is None or not known[0] <= at < known[1]:
            known = self._find(model, at)
            if known is None:
                return None
        return -(-(prompt * known[2] + answer * known[3]) // TOKENS_PER_PRICE)

    def _find(self, model: str, at: datetime) -> tuple[datetime, datetime, int, int] | None:
        of_model = [one for one in self.prices if one.model in {model, DEFAULT_MODEL}]
        until = min((one.valid_from for one in of_model if one.valid_from > at), default=FOREVER)
        in_force = [one for one in of_model if one.valid_from <= at]
        if not in_force:
            return None
        own = [one for one in in_force if one.model == model] or in_force
        price = max(own, key=lambda one: (one.valid_from, one.price_id))
        # Nothing has changed since the newest of both, the model's own and the default.
        since = max(one.valid_from for one in in_force)
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        found = (
            since,
            until,
            price.price_microeur_per_mtoken_in,
            price.price_microeur_per_mtoken_out,
        )
        self._known[model] = found
        return found


class Account:
    """Micro-euros of one scope in one period: what was granted, and what of it is at hand.

    At hand is what was neither returned, nor reserved, nor spent: whoever reserves takes it from there.
    It is below zero only where requests that were admitted without it are charged to it.
    """

    __slots__ = ("asked_past", "at_hand", "end", "granted", "left", "reserved", "returned", "start")

    def __init__(self, start: datetime, end: datetime | None) -> None:
        self.start = start
        self.end = end or FOREVER
        self.granted = 0
        self.returned = 0
        self.reserved = 0
        self.at_hand = 0
        self.left: int | None = None
        """What nobody holds, as metering said last."""
        self.asked_past = False
        """Whether money of the next period has been asked for."""

    def holds(self, at: datetime) -> bool:
        """Tell whether a request that starts at ``at`` is paid from here."""
        return self.start <= at < self.end

    def grant(self, granted: int) -> None:
        """Hold what was granted in all."""
        self.at_hand += granted - self.granted
        self.granted = granted

    def settle(self, reserved: int, cost: int) -> None:
        """Spend what a request has cost instead of what was set aside for it."""
        self.reserved -= reserved
        self.at_hand += reserved - cost
        assert self.reserved >= 0, "more was settled than was reserved"

    def give_back(self, amount: int) -> None:
        """Hold less; metering is told with the next wish, and the one after that."""
        assert 0 <= amount <= max(self.at_hand, 0)
        self.at_hand -= amount
        self.returned += amount
