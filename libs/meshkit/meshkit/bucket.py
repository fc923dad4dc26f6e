"""State that others must see at once: key-value buckets with one writer, epoch, generation, beat."""

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import msgspec

from meshkit.bus import Bus

V = TypeVar("V", bound=msgspec.Struct)

BEAT_KEY = "_beat"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """How a value stands in a bucket: JSON ``{"epoch", "generation", "value"}``.

    ``epoch`` is the writer's start, ``generation`` its change; readers refuse older ones.
    """

    epoch: int
    generation: int
    value: msgspec.Raw = msgspec.Raw(b"null")


class Watched(Generic[V]):
    """A bucket held in memory: the whole of it, kept up to date; swapped whole after a reconnect."""

    values: Mapping[str, V]

    @classmethod
    async def open(cls, bus: Bus, bucket: str) -> "Watched[V]":
        """Return the bucket, filled once its snapshot is whole (``ready``); never blocks for ever."""
        raise NotImplementedError

    @property
    def ready(self) -> bool:
        """Whether a whole snapshot has been seen."""
        raise NotImplementedError

    def age_s(self) -> float:
        """Return the seconds since the writer last beat, as this reader saw it (inf before)."""
        raise NotImplementedError

    def on_change(self, then: Callable[[str, V | None], None]) -> None:
        """Call ``then(key, value)`` on each change; ``None`` where a key is gone."""
        raise NotImplementedError

    async def close(self) -> None:
        """Watch no more."""
        raise NotImplementedError
