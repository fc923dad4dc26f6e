"""Which rows of a site have changed, so that those who keep what they computed of them need not compute all anew."""

import numpy as np

from placement.domain.engine.mix import Ints

TOUCHED_MAX = 1 << 16
"""Changes remembered for those who keep scores; whoever is further behind scores all rows anew."""


class Changes:
    """Rows in the order in which they changed."""

    def __init__(self) -> None:
        self.rows = 0
        self._touched: list[int] = []
        self._forgotten = 0

    def touch(self, row: int) -> None:
        """Note that a row has changed."""
        self._touched.append(row)
        self._forget()

    def touch_all(self, rows: list[int]) -> None:
        """Note that rows have changed."""
        self._touched += rows
        self._forget()

    def _forget(self) -> None:
        if len(self._touched) > TOUCHED_MAX:
            beyond = len(self._touched) - TOUCHED_MAX // 2
            self._forgotten += beyond
            del self._touched[:beyond]

    @property
    def seen(self) -> int:
        """How many changes there were."""
        return self._forgotten + len(self._touched)

    def since(self, seen: int) -> Ints | None:
        """Return the rows that changed since there were ``seen`` changes, each once; ``None`` for all."""
        behind = self.seen - seen
        if behind > len(self._touched) or behind > self.rows:
            return None
        rows = set(self._touched[len(self._touched) - behind :])
        return np.fromiter(rows, np.int64, len(rows))
