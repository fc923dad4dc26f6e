"""The one writer of a bucket: an epoch that deposes older ones, a beat a second.

A writer begins by writing its epoch into the bucket, and the bus takes its puts only as long as that is the
last epoch written: one that was frozen while another took over can put nothing, though it knows of nobody.
"""

import asyncio
import logging

import msgspec
from mesh_contracts import wire

from meshkit.bucketentry import BEAT_KEY, EPOCH_KEY, OWN_KEYS, Entry, read_entry
from meshkit.bus import Bus
from meshkit.errors import MeshError, StaleSnapshot, Unavailable
from meshkit.feed import Feed, Item

BEAT_EVERY_S = 1.0
START_WITHIN_S = 10.0
CAS_TRIES_MAX = 4
CAS_WAIT_S = 0.005
"""Before a put is tried again: a bus of several servers takes one at a time on one condition."""
EXPECTED = "Nats-Expected-Last-Subject-Sequence"
DROPPED_KEPT_S = 24 * 3600
"""How long a dropped key's mark stays: older than any writer that could come back."""

logger = logging.getLogger(__name__)


class BucketWriter:
    """Writes one bucket in one epoch. Calls for one key come one after the other."""

    def __init__(self, bus: Bus, bucket: str, epoch: int) -> None:
        self.bucket = bucket
        self.epoch = epoch
        self.deposed = asyncio.Event()
        """Set once a later epoch was seen: write no more."""
        self.behind = False
        """Whether the bus lost what it had acknowledged (power, an older copy): make the difference anew."""
        self._bus = bus
        self._stream = f"KV_{bucket}"
        self._held: dict[str, bytes] = {}
        self._revisions: dict[str, int] = {}
        self._generations: dict[str, int] = {}
        self._claim = 0
        self._whole = asyncio.Event()
        self._feed = Feed(bus, bucket, whole=self._swap, changed=self._see)
        self._beating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin: see the whole bucket, then beat. Raises ``Unavailable``, or ``StaleSnapshot`` where
        a later epoch writes already.
        """  # noqa: D205
        await self._feed.start()
        try:
            async with asyncio.timeout(START_WITHIN_S):
                await self._whole.wait()
            await self._claim_it()
            await self._beat()
        except TimeoutError:
            await self._feed.close()
            raise Unavailable(f"bucket {self.bucket} cannot be read") from None
        except BaseException:
            await self._feed.close()
            raise
        self._beating = asyncio.create_task(self._beat_on(), name=f"beat {self.bucket}")

    async def held(self) -> dict[str, bytes]:
        """Return the encoded value of each key that stands in the bucket."""
        return dict(self._held)

    async def put(
        self, key: str, value: msgspec.Struct | bytes, *, generation: int | None = None
    ) -> None:
        """Have ``key`` hold ``value`` (encoded already, where it is bytes).

        ``generation`` is how often the key has changed, the next one where it is not given. Raises
        ``StaleSnapshot`` once deposed, and ``Unavailable``: the same may be put again.
        """
        encoded = value if isinstance(value, bytes) else wire.encode(value)
        await self._set(key, encoded, generation)
        self._held[key] = encoded

    async def drop(self, key: str, *, generation: int | None = None) -> None:
        """Have the bucket forget ``key``. Raises as ``put`` does."""
        await self._set(key, None, generation)
        self._held.pop(key, None)

    async def close(self) -> None:
        """Beat no more."""
        if self._beating is not None:
            self._beating.cancel()
        await self._feed.close()

    async def _set(self, key: str, value: bytes | None, generation: int | None) -> None:
        """Write, provided that ours is the last epoch; where it seems not to be, look whose is."""
        for _ in range(CAS_TRIES_MAX):
            self._check()
            at = generation if generation is not None else self._generations.get(key, 0) + 1
            headers = {
                EXPECTED: str(self._claim),
                f"{EXPECTED}-Subject": f"$KV.{self.bucket}.{EPOCH_KEY}",
            }
            if value is None:
                headers["KV-Operation"] = "DEL"
                headers["Nats-TTL"] = f"{DROPPED_KEPT_S}s"
            try:
                revision = await self._store(key, at, value, headers)
            except StaleSnapshot:
                await self._look_whose()
                await asyncio.sleep(CAS_WAIT_S)
                continue
            if revision > self._revisions.get(key, 0):
                self._revisions[key] = revision
                self._generations[key] = at
            return
        raise Unavailable(f"bucket {self.bucket}: {key} is being written by somebody else")

    async def _claim_it(self) -> None:
        """Have ours be the last epoch in the bucket; begun again in the same epoch, it is already."""
        for _ in range(CAS_TRIES_MAX):
            self._check()
            if self._claim:
                return
            headers = {EXPECTED: str(self._revisions.get(EPOCH_KEY, 0))}
            try:
                self._claim = await self._store(EPOCH_KEY, 1, None, headers)
            except StaleSnapshot:
                await self._read_epoch()
        if not self._claim:
            raise Unavailable(f"bucket {self.bucket} is being claimed by somebody else")

    async def _look_whose(self) -> None:
        """Find out why a put was refused. Raises ``Unavailable`` where the bus has lost our epoch."""
        self._claim = 0
        await self._read_epoch()
        self._check()
        if not self._claim:
            # It lost more than that: all that it holds is compared again.
            self.behind = True
            raise Unavailable(f"bucket {self.bucket} is an older copy of itself")

    async def _read_epoch(self) -> None:
        stored = await self._bus.last(self._stream, f"$KV.{self.bucket}.{EPOCH_KEY}")
        if stored is None:
            self._revisions.pop(EPOCH_KEY, None)
        else:
            self._revisions[EPOCH_KEY] = stored.sequence
            self._note(EPOCH_KEY, stored.sequence, read_entry(stored.data))

    def _check(self) -> None:
        if self.deposed.is_set():
            raise StaleSnapshot(f"bucket {self.bucket} has a later writer than epoch {self.epoch}")

    async def _store(
        self, key: str, generation: int, value: bytes | None, headers: dict[str, str]
    ) -> int:
        raw = msgspec.Raw(b"null" if value is None else value)
        entry = Entry(epoch=self.epoch, generation=generation, value=raw)
        return await self._bus.store(
            f"$KV.{self.bucket}.{key}", msgspec.json.encode(entry), headers=headers
        )

    def _note(self, key: str, revision: int, entry: Entry | None) -> None:
        if entry is not None:
            if entry.epoch > self.epoch and not self.deposed.is_set():
                logger.warning("bucket %s: epoch %d has taken over", self.bucket, entry.epoch)
                self.deposed.set()
            if key == EPOCH_KEY and entry.epoch == self.epoch:
                self._claim = revision
            self._generations[key] = max(entry.generation, self._generations.get(key, 0))
        self._revisions[key] = max(revision, self._revisions.get(key, 0))

    def _swap(self, snapshot: dict[str, Item]) -> None:
        lost = [key for key in self._revisions if self._lost(key, snapshot.get(key))]
        if self._whole.is_set() and lost:
            text = "bucket %s: the bus has lost %d of the keys it had acknowledged"
            logger.error(text, self.bucket, len(lost))
            self.behind = True
        for key in [key for key in self._revisions if key not in snapshot]:
            del self._revisions[key]
            self._held.pop(key, None)
        for item in snapshot.values():
            self._see(item)
        self._whole.set()

    def _lost(self, key: str, item: Item | None) -> bool:
        if item is None:
            # A dropped key's mark goes with time.
            return key in self._held
        return key not in OWN_KEYS and item.revision < self._revisions[key]

    def _see(self, item: Item) -> None:
        if item.revision < self._revisions.get(item.key, 0):
            return
        entry = read_entry(item.data)
        self._note(item.key, item.revision, entry)
        if item.key in OWN_KEYS:
            return
        if item.gone or entry is None:
            self._held.pop(item.key, None)
        else:
            self._held[item.key] = bytes(entry.value)

    async def _beat(self) -> None:
        await self._set(BEAT_KEY, b"null", None)

    async def _beat_on(self) -> None:
        while not self.deposed.is_set():
            await asyncio.sleep(BEAT_EVERY_S)
            try:
                await self._beat()
            except StaleSnapshot:
                return
            except MeshError as fault:
                logger.info("bucket %s: no beat: %s", self.bucket, fault)
