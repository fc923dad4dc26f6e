"""State that others must see at once: key-value buckets with one writer, epoch, generation, beat."""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec
from mesh_contracts import streams
from mesh_contracts.units import dec_hook

from meshkit.bucketentry import BEAT_KEY, EPOCH_KEY, Entry, read_entry
from meshkit.bucketwriter import BEAT_EVERY_S, BucketWriter
from meshkit.bus import Bus
from meshkit.feed import Feed, Item
from meshkit.telemetry import METRICS

V = TypeVar("V", bound=msgspec.Struct)

OPEN_WITHIN_S = 5.0

logger = logging.getLogger(__name__)


class Watched(Generic[V]):
    """A bucket held in memory: the whole of it, kept up to date; swapped whole after a reconnect."""

    values: Mapping[str, V]

    def __init__(self, bus: Bus, bucket: str) -> None:
        kinds = streams.bucket(bucket).value
        by_token: dict[str, Any] = kinds if isinstance(kinds, dict) else {"": kinds}
        self._decoders: dict[str, Callable[[Any], V]] = {
            token: msgspec.json.Decoder(kind, dec_hook=dec_hook).decode
            for token, kind in by_token.items()
        }
        self.bucket = bucket
        self._bus = bus
        self._values: dict[str, V] = {}
        self._places: dict[str, tuple[int, int]] = {}
        self.values = self._values
        self._epoch = 0
        self._beat_at: float | None = None
        self._then: list[Callable[[str, V | None], None]] = []
        self._whole = asyncio.Event()
        self._feed = Feed(bus, bucket, whole=self._swap, changed=self._change)

    @classmethod
    async def open(cls, bus: Bus, bucket: str) -> "Watched[V]":
        """Return the bucket, filled once its snapshot is whole (``ready``); never blocks for ever.

        Returns after ``OPEN_WITHIN_S`` though it is not ready, and goes on trying. Raises
        ``PermissionsViolation`` where it is not ours to watch.
        """
        watched = cls(bus, bucket)
        await watched._feed.start()
        try:
            async with asyncio.timeout(OPEN_WITHIN_S):
                await watched._whole.wait()
        except TimeoutError:
            logger.warning("bucket %s is not whole yet", bucket)
        return watched

    @property
    def ready(self) -> bool:
        """Whether a whole snapshot has been seen."""
        return self._whole.is_set()

    def age_s(self) -> float:
        """Return the seconds since the writer last beat, as this reader saw it (inf before)."""
        return math.inf if self._beat_at is None else self._bus.clock.monotonic() - self._beat_at

    def on_change(self, then: Callable[[str, V | None], None]) -> None:
        """Call ``then(key, value)`` on each change; ``None`` where a key is gone."""
        self._then.append(then)

    async def close(self) -> None:
        """Watch no more."""
        await self._feed.close()

    def _swap(self, snapshot: dict[str, Item]) -> None:
        """Hold what the snapshot holds; what is missing from it is gone."""
        for key in [key for key in self._values if key not in snapshot]:
            self._places.pop(key, None)
            self._forget(key)
        for item in snapshot.values():
            self._take(item, live=False)
        self._whole.set()

    def _change(self, item: Item) -> None:
        self._take(item, live=True)

    def _take(self, item: Item, *, live: bool) -> None:
        entry = read_entry(item.data)
        if entry is None:
            self._skip(item.key, "undecodable")
            return
        place = (entry.epoch, entry.generation)
        # In a snapshot an older epoch's value stands until the new writer has changed it.
        if place < self._places.get(item.key, (0, 0)) or (live and entry.epoch < self._epoch):
            self._skip(item.key, "older")
            return
        self._epoch = max(self._epoch, entry.epoch)
        if item.key == BEAT_KEY:
            self._beaten(item, live=live)
            return
        if item.key == EPOCH_KEY:
            return
        if item.gone:
            self._places[item.key] = place
            self._forget(item.key)
            return
        try:
            value = self._decode(item.key, entry.value)
        except (msgspec.DecodeError, ValueError, KeyError):
            self._skip(item.key, "unknown")
            return
        changed = self._places.get(item.key) != place or item.key not in self._values
        self._places[item.key] = place
        self._values[item.key] = value
        if changed:
            self._tell(item.key, value)

    def _decode(self, key: str, raw: msgspec.Raw) -> V:
        """Return the value under ``key``. Raises ``KeyError`` for a kind of key that is not known here."""
        whole = self._decoders.get("")
        return (whole or self._decoders[key.partition(".")[0]])(raw)

    def _beaten(self, item: Item, *, live: bool) -> None:
        now = self._bus.clock.monotonic()
        # A beat found in a snapshot may be hours old: the server says when it took it.
        late_s = 0.0 if live else max(0.0, self._bus.clock.now().timestamp() - item.stored_at_s)
        self._beat_at = now - late_s if self._beat_at is None else max(self._beat_at, now - late_s)

    def _forget(self, key: str) -> None:
        if self._values.pop(key, None) is not None:
            self._tell(key, None)

    def _tell(self, key: str, value: V | None) -> None:
        for then in self._then:
            try:
                then(key, value)
            except Exception:
                logger.exception("what follows a change of bucket %s failed", self.bucket)

    def _skip(self, key: str, why: str) -> None:
        METRICS.count("mesh_bucket_skipped_total", bucket=self.bucket, why=why)
        logger.warning("bucket %s: a value of %s is skipped: %s", self.bucket, key, why)


__all__ = ["BEAT_EVERY_S", "BEAT_KEY", "BucketWriter", "Entry", "Watched"]
