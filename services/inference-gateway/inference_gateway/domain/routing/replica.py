"""One replica as this gateway knows it: what it has to do, how it does, and why it may be passed over."""

from mesh_contracts.placement import Replica

from inference_gateway.domain.routing.affinity import point
from inference_gateway.domain.routing.breaker import Breaker
from inference_gateway.domain.routing.signals import Signals

SIGNALS_STAND_S = 10.0
"""How long what an engine said of itself is believed."""

KV_CROWDED = 0.5
"""From this use of its KV cache on a replica counts as busier, at full use as twice as busy."""

BUSY_S = 0.25
"""How long a replica that answered 429 counts as full."""

TOKENS_TYPICAL = 512.0
"""What a request of another gateway is taken for until this one has seen some of its own."""

SMOOTH = 0.2
SAMPLES_MIN = 10
"""First bytes after which a replica's latency is judged."""

EJECT_S = 10.0
EJECT_MAX_S = 300.0
"""How long an outlier is left alone: longer each time in a row, up to this."""

PASSED_TRIED, PASSED_OPEN, PASSED_FULL, PASSED_EJECTED = "tried", "circuit_open", "full", "ejected"


class State:
    """What is known of one replica. Times are those of one clock that never steps back."""

    __slots__ = (
        "_crowd",
        "_ejections",
        "_foreign",
        "_signals_until",
        "awaiting",
        "breaker",
        "busy_until",
        "ejected_until",
        "first_byte_s",
        "gone",
        "id",
        "in_flight",
        "place",
        "replica",
        "room",
        "samples",
        "silent_since",
        "tokens",
        "typical",
    )

    def __init__(self, replica: Replica, room: int) -> None:
        self.replica = replica
        self.id = replica.workload_id
        self.place = point(replica.workload_id)
        self.room = room
        self.gone = False
        self.in_flight = 0
        self.tokens = 0
        self.typical = TOKENS_TYPICAL
        self.breaker = Breaker()
        self.busy_until = 0.0
        self.ejected_until = 0.0
        self._ejections = 0
        self.first_byte_s = 0.0
        self.samples = 0
        self.awaiting = 0
        self.silent_since = 0.0
        self._signals_until = 0.0
        self._foreign = 0
        self._crowd = 1.0

    def load(self, now: float) -> int:
        """Return the tokens it may still have to make, with what its engine says others sent it."""
        if self._signals_until <= now:
            return self.tokens
        return int((self.tokens + self._foreign * self.typical) * self._crowd)

    def free(self, now: float) -> int:
        """Return how many more requests it takes now."""
        return max(self.room - self.in_flight, 0) if self.busy_until <= now else 0

    def silent(self, now: float, patience_s: float) -> bool:
        """Tell whether it owes a first byte and has given no sign for so long."""
        return self.awaiting > 0 and now - self.silent_since > patience_s

    def begin(self, tokens: int, now: float) -> bool:
        """Count a request in; tell whether it is a probe."""
        self.in_flight += 1
        self.tokens += tokens
        self.typical += SMOOTH * (tokens - self.typical)
        if self.awaiting == 0:
            self.silent_since = now
        self.awaiting += 1
        return self.breaker.begin()

    def answered(self, now: float) -> None:
        """Hear that one request owes no first byte any more."""
        self.awaiting -= 1
        self.silent_since = now

    def end(self, tokens: int) -> None:
        """Count a request out."""
        self.in_flight -= 1
        self.tokens -= tokens
        assert self.in_flight >= 0, "what ends has begun"

    def timed(self, seconds: float, prompt_tokens: int) -> None:
        """Learn how long a first byte took; a long prompt may take longer."""
        fair = seconds / (1.0 + prompt_tokens / 1_000)
        self.samples += 1
        step = SMOOTH if self.samples > 1 else 1.0
        self.first_byte_s += step * (fair - self.first_byte_s)

    def eject(self, now: float) -> None:
        """Leave it alone for a while; afterwards it is judged by what it does then."""
        self._ejections += 1
        self.ejected_until = now + min(EJECT_S * self._ejections, EJECT_MAX_S)
        self.samples = 0

    def absolve(self) -> None:
        """Hear that it keeps up with its peers: the next ejection is a short one."""
        self._ejections = 0

    def heed(self, signals: Signals, now: float) -> None:
        """Learn what its engine says. Requests beyond our own are those of other gateways."""
        self._signals_until = now + SIGNALS_STAND_S
        self._foreign = max(signals.running + signals.waiting - self.in_flight, 0)
        crowded = max((signals.kv_use or 0.0) - KV_CROWDED, 0.0) / (1.0 - KV_CROWDED)
        self._crowd = 1.0 + crowded
