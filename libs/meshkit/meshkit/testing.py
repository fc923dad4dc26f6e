"""The doubles we ship to ourselves: a clock that stands still, envelopes for facts and asks."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from mesh_contracts.units import DEFAULT_SITE, derived_id

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


class FrozenClock:
    """A clock that moves only when told to."""

    def __init__(self, at: datetime = NOW) -> None:
        self._now = at
        self._monotonic = 0.0

    def now(self) -> datetime:
        """Return the time it was set to."""
        return self._now

    def monotonic(self) -> float:
        """Return the seconds it was moved by."""
        return self._monotonic

    def move(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds


_serial = count(1)


def test_id(kind: str, name: str = "") -> str:  # noqa: PT028 it is no test
    """Return an id that follows from ``name``, or a new one each time where there is none."""
    return derived_id(kind, NOW, name or f"test-{next(_serial)}")


test_id.__test__ = False  # type: ignore[attr-defined]


def envelope(key: str, **fields: Any) -> dict[str, Any]:
    """Return a fact's envelope for tests; ``fields`` override."""
    return {
        "fact_id": test_id("fact"),
        "key": key,
        "site": DEFAULT_SITE,
        "occurred_at": NOW,
        "version": 1,
        "recorded_at": NOW,
        **fields,
    }


def wish(**fields: Any) -> dict[str, Any]:
    """Return an ask's envelope for tests; ``fields`` override."""
    return {
        "ask_id": test_id("ask"),
        "asked_at": NOW,
        "deadline": NOW + timedelta(seconds=5),
        "site": DEFAULT_SITE,
        **fields,
    }
