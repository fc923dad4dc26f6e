"""The grid's carbon, as carbon-accounting signals it, for who may begin later for its sake."""

from collections.abc import Callable

from mesh_contracts.carbon import Signal
from meshkit.bucket import Watched

from placement.domain.engine.wish import Input
from placement.sitememory import Memory


class Grid:
    """What the bucket ``signals`` says of the site."""

    def __init__(self, site: str, watched: Callable[[], Watched[Signal]]) -> None:
        self._key, self._watched = f"intensity.{site}", watched

    def news(self, held: Memory, now: int) -> Input | None:
        """Return what the engine is to foresee from now on, where that is not what it does."""
        signal = self._watched().values.get(self._key)
        return None if signal is None else held.foresees(signal.factor.carbon_mg_per_kwh, now)
