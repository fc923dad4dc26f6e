"""Which endpoints' demand is worth telling now: at once where somebody waits, calmly where it only moves."""

from collections.abc import Mapping

import msgspec
from mesh_contracts.inference import Demand

STANDS_MS = 15_000
"""How long a word stands that is not said anew."""

AGAIN_S = 7.0
"""After how long it is said anew while there are requests: twice before it would count as nothing."""

EVERY_S = 1.0
"""The least time between two words about load that only moves."""

MOVED_SHARE = 0.2
"""By how much of what was said the load must move to be worth another word."""

IDLE_AFTER_MS = 1_000
"""How long there must be no request before that is said: short ones in a row are one load."""

IDLE_AGAIN_S = 300.0
"""After how long it is said again that there is none; placement counts on by itself, this only mends."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What stands at one endpoint now; ``tokens_total`` counts output tokens since the start.

    ``in_flight`` are at replicas, ``queued`` wait for one; ``waking``: one waits, and no replica
    serves. ``idle_ms`` is the time since the last request ended, 0 while there is one.
    """

    in_flight: int = 0
    queued: int = 0
    in_flight_tokens: int = 0
    tokens_total: int = 0
    idle_ms: int = 0
    waking: bool = False

    @property
    def load(self) -> int:
        """How many requests there are."""
        return self.in_flight + self.queued

    @property
    def busy(self) -> bool:
        """Whether there is any."""
        return self.load > 0 or self.waking


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen when an endpoint was last spoken of, at ``at`` (monotonic seconds)."""

    seen: Seen
    at: float


def worth_telling(said: Mapping[str, Said], seen: Mapping[str, Seen], now: float) -> dict[str, Said]:
    """Return what to say now, by endpoint; empty where nothing is worth a fact yet.

    One fact carries all of it. An endpoint that is seen no more is said to be idle, once.
    """
    wished: dict[str, Said] = {}
    urgent = False
    for endpoint_id in {**said, **seen}:
        known = said.get(endpoint_id)
        fresh = seen.get(endpoint_id, Seen(idle_ms=IDLE_AFTER_MS))
        before = known.seen if known is not None else Seen()
        pressing = _presses(before, fresh)
        if pressing or (known is not None and (_moved(before, fresh) or _due(known, fresh, now))):
            wished[endpoint_id] = Said(seen=fresh, at=now)
            urgent = urgent or pressing
    last = max((one.at for one in said.values()), default=None)
    return wished if urgent or last is None or now - last >= EVERY_S else {}


def demand_of(endpoint_id: str, word: Said, before: Said | None) -> Demand:
    """Return what is said of one endpoint; the rate of tokens is that since it was last spoken of."""
    seen, rate = word.seen, 0
    if before is not None and word.at > before.at:
        rate = max(0, int((seen.tokens_total - before.seen.tokens_total) / (word.at - before.at)))
    return Demand(
        endpoint_id=endpoint_id,
        in_flight=seen.in_flight,
        queued=seen.queued,
        in_flight_tokens=seen.in_flight_tokens,
        tokens_per_s=rate,
        idle_ms=0 if seen.busy else seen.idle_ms,
        waking=seen.waking,
    )


def remembered(
    said: Mapping[str, Said], told: Mapping[str, Said], seen: Mapping[str, Seen]
) -> dict[str, Said]:
    """Return what was said by now: all that is seen, and what must still be said to be idle."""
    both = {**said, **told}
    return {
        endpoint_id: word for endpoint_id, word in both.items() if endpoint_id in seen or word.seen.busy
    }


def _presses(before: Seen, fresh: Seen) -> bool:
    """Tell whether somebody waits, or came after none was there: nobody should wait for the calm pace."""
    first = fresh.busy and not before.busy
    return first or (fresh.waking and not before.waking) or (fresh.queued > 0 and before.queued == 0)


def _moved(before: Seen, fresh: Seen) -> bool:
    if not fresh.busy:
        return before.busy and fresh.idle_ms >= IDLE_AFTER_MS
    return (
        abs(fresh.load - before.load) > MOVED_SHARE * before.load
        or fresh.waking != before.waking
        or (fresh.queued > 0) != (before.queued > 0)
    )


def _due(known: Said, fresh: Seen, now: float) -> bool:
    return now - known.at >= (AGAIN_S if fresh.busy or known.seen.busy else IDLE_AGAIN_S)
