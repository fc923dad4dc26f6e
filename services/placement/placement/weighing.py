"""What decisions weigh beside what is asked: what is usually asked for, what watts cost, what meters and the grid say."""

from collections.abc import Callable

from mesh_contracts.carbon import Signal
from mesh_contracts.node import Power
from meshkit.bucket import Watched
from meshkit.clock import Clock

from placement.domain.engine.engine import Engine
from placement.domain.engine.wish import Input, Weighed
from placement.domain.foresight import foresee
from placement.domain.metered import beyond
from placement.domain.usual import ASKED_LEAST, usual
from placement.sitememory import Memory

FRESH_S = 10.0
"""What a meter said longer ago is not what is drawn now."""
MIX_EVERY_S = 10.0
"""Seconds at least from one telling what is usually asked for to the next: every node is scored anew for it."""
NODES_MAX = 100_000
"""Nodes whose meters are heard; of further ones the plan counts."""


class Weighing:
    """What has changed of it since the engine was told; ``watt_weight`` as in the engine's ``Weighed``."""

    def __init__(
        self, site: str, clock: Clock, watched: Callable[[], Watched[Signal]], watt_weight: int = 0
    ) -> None:
        self._key, self._watched = f"intensity.{site}", watched
        self._clock, self._watt_weight = clock, watt_weight
        self._drawn: dict[str, tuple[float, int]] = {}
        self._told_mix_at = float("-inf")

    def on_power(self, sample: Power) -> None:
        """Note what a node draws by its own meter; what is only estimated is no better than the plan."""
        if sample.quality == "measured" and (
            sample.node_id in self._drawn or len(self._drawn) < NODES_MAX
        ):
            self._drawn[sample.node_id] = (self._clock.monotonic(), sample.power_w)

    def news(self, held: Memory, now: int, *, compares: bool) -> list[Input]:
        """Return what the engine is to know from now on; meters are compared with the plan where it ``compares``."""
        found: list[Input] = []
        engine = held.engine_if_any
        if engine is None:
            return found
        if engine.watt_weight != self._watt_weight:
            found.append(Weighed(watt=self._watt_weight))
        signal = self._watched().values.get(self._key)
        if signal is not None:
            grid = engine.turns.trying.grid.foreseen
            foreseen = foresee(grid, signal.factor.carbon_mg_per_kwh, now)
            found += [foreseen] if foreseen is not None else []
        since_s = self._clock.monotonic() - self._told_mix_at
        if since_s >= MIX_EVERY_S and held.asked.total() >= ASKED_LEAST:
            self._told_mix_at = self._clock.monotonic()
            found.append(usual(engine.expected, held.asked))
            held.asked.clear()
        return found + (self._beyond(engine) if compares else [])

    def _beyond(self, engine: Engine) -> list[Input]:
        since = self._clock.monotonic() - FRESH_S
        self._drawn = {node: drawn for node, drawn in self._drawn.items() if drawn[0] >= since}
        return list(beyond(engine, {node: watts for node, (_, watts) in self._drawn.items()}))
