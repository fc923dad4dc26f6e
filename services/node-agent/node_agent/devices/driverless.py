"""What accelerators have in common whose driver is not here."""

from collections.abc import Callable, Mapping

from node_agent.domain.xid import Xid


class Driverless:
    """Tells nothing of its own accord, and keeps no counters."""

    stuck_s = 0.0

    def __init__(self) -> None:
        self.gone: dict[int, str] = {}

    def watch(self, told: Callable[[Xid], None]) -> Callable[[], None]:
        """Tell nothing: there is no driver."""
        del told
        return lambda: None

    def recovery(self, index: int) -> int | None:
        """Return nothing: no device can be asked."""
        del index
        return None

    def buses(self) -> list[str]:
        """Return none: what the kernel here logs is of others."""
        return []

    def counters(self) -> dict[str, int]:
        """Return none: what is drawn is worked out from the time that passed."""
        return {}

    def resume(self, counters: Mapping[str, int]) -> None:
        """Do nothing."""
        del counters
