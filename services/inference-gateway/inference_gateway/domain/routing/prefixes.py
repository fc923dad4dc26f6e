"""Which replica has seen the beginning of a prompt: bounded tables of hashed prefixes, one an endpoint."""

from collections.abc import Sequence
from typing import NamedTuple

PREFIX_BYTES_MAX = 32 * 1024
"""How much of a prompt is looked at."""

CUTS = (*range(256, 2_048, 256), *range(2_048, 8_192, 512), *range(8_192, PREFIX_BYTES_MAX + 1, 2_048))
"""Where a prompt is cut: fine where prompts differ, coarser further on. A part is not looked at."""

PREFIXES_MAX = 32_768
"""Prefixes remembered of one endpoint: above 1,000 of the longest prompts."""

PREFIXES_ALL_MAX = 131_072
"""Prefixes remembered of all endpoints together, about 20 MB."""

MARKS_MAX = 256
"""Replicas an endpoint has ever had before its table begins anew."""


class Prefix(NamedTuple):
    """The beginning of one prompt: a hash for each cut, each over all that stands before it."""

    hashes: tuple[int, ...]
    size: int


def hashed(prompt: bytes | memoryview) -> Prefix:
    """Return a prompt's beginning as hashes, which mean something within this process only."""
    looked_at = bytes(memoryview(prompt)[:PREFIX_BYTES_MAX])
    size = len(looked_at)
    found = []
    last = at = 0
    for cut in CUTS:
        if cut > size:
            break
        last = hash((last, looked_at[at:cut]))
        found.append(last)
        at = cut
    return Prefix(tuple(found), size)


class Prefixes:
    """The tables of all endpoints, which share one bound."""

    def __init__(self, *, each_max: int = PREFIXES_MAX, all_max: int = PREFIXES_ALL_MAX) -> None:
        self._each_max = each_max
        self._all_max = all_max
        self._tables: dict[str, PrefixTable] = {}
        self.held = 0

    def of(self, endpoint_id: str) -> "PrefixTable":
        """Return an endpoint's table."""
        table = self._tables.get(endpoint_id)
        if table is None:
            table = self._tables[endpoint_id] = PrefixTable()
        return table

    def drop(self, endpoint_id: str) -> None:
        """Forget an endpoint's prefixes."""
        table = self._tables.pop(endpoint_id, None)
        if table is not None:
            self.held -= len(table)

    def note(self, endpoint_id: str, prefix: Prefix, workload_id: str) -> None:
        """Remember that a replica is about to see a prompt."""
        table = self.of(endpoint_id)
        before = len(table)
        table.note(prefix, workload_id, self._each_max // 2)
        self.held += len(table) - before
        # At most twice: the first time what is older goes, the second time all of it.
        while self.held > self._all_max:
            for other in self._tables.values():
                other.turn()
            self.held = sum(len(other) for other in self._tables.values())


class PrefixTable:
    """What one endpoint's replicas have seen, in two generations: the older one goes when the young is full.

    Each prefix has a set of replicas, as bits. What is used again moves into the young generation.
    """

    __slots__ = ("_marks", "_next", "_old", "_young")

    def __init__(self) -> None:
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self._marks: dict[str, int] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def longest(self, prefix: Prefix, among: Sequence[str]) -> tuple[set[str], float]:
        """Return which of ``among`` have seen the longest beginning, and its share of what was looked at."""
        marks = {self._marks[one]: one for one in among if one in self._marks}
        left = sum(marks)
        depth = 0
        if left:
            young, old = self._young, self._old
            for value in prefix.hashes:
                known = (young.get(value) or old.get(value, 0)) & left
                if not known:
                    break
                left = known
                depth += 1
        if not depth:
            return set(), 0.0
        return {one for mark, one in marks.items() if mark & left}, CUTS[depth - 1] / prefix.size

    def note(self, prefix: Prefix, workload_id: str, young_max: int) -> None:
        """Remember a replica's prompt."""
        mark = self._mark(workload_id)
        young, old = self._young, self._old
        for value in prefix.hashes:
            known = young.get(value)
            young[value] = (old.pop(value, 0) if known is None else known) | mark
        if len(young) >= young_max:
            self.turn()

    def turn(self) -> None:
        """Let the older generation go; the young one is the older from now on."""
        self._old = self._young
        self._young = {}

    def keep(self, present: set[str]) -> None:
        """Forget the marks of replicas that are gone; what they had seen leaves with its generation."""
        for gone in self._marks.keys() - present:
            del self._marks[gone]

    def _mark(self, workload_id: str) -> int:
        mark = self._marks.get(workload_id)
        if mark is None:
            if self._next >= MARKS_MAX:
                # A mark is never used twice: the new replica would inherit what another had seen.
                self._young.clear()
                self._old.clear()
                self._marks.clear()
                self._next = 0
            mark = self._marks[workload_id] = 1 << self._next
            self._next += 1
        return mark
