"""Texts by number, and what a node's members hold together: what a site's columns are written from."""

from typing import NamedTuple

from placement.domain.engine.mix import Ints


class Codes(dict[str, int]):
    """Texts by number, in the order they were first met."""

    def of(self, text: str) -> int:
        """Return a text's number; the next where it is new."""
        return self.setdefault(text, len(self))


class Held(NamedTuple):
    """What the members of one node hold together: milli and slices of each card, CPU, memory, how many they are."""

    cards: Ints
    slices: Ints
    cpu: int
    memory: int
    members: int
