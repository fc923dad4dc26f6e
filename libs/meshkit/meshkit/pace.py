"""How many facts go into one transaction: many where that is quick, few where others would wait for it."""

from typing import Final

FACTS_PER_TRANSACTION: Final = 500
FACTS_LEAST: Final = 32
FACT_BYTES: Final = 1_024
"""Each KiB of a fact counts as one more of them: what a transaction holds must not be held for seconds."""
HOLD_S: Final = 0.2
"""So long a transaction is to take: whoever asks the service meanwhile waits for it."""


class Pace:
    """So many facts, by what they took before."""

    def __init__(self) -> None:
        self.room = FACTS_PER_TRANSACTION

    def took(self, facts: int, seconds: float) -> None:
        """Learn what some facts took. A pace is halved or doubled at most: one fact may be as many others."""
        fits = int(facts * HOLD_S / max(seconds, 1e-6))
        if fits < facts:
            self.room = max(FACTS_LEAST, self.room // 2, fits)
        elif 2 * facts >= self.room:
            self.room = min(FACTS_PER_TRANSACTION, 2 * self.room, fits)


def weight(data: bytes) -> int:
    """Return how many facts one counts as, by its size."""
    return 1 + len(data) // FACT_BYTES
