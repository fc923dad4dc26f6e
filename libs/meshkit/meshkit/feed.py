"""A bucket as it comes from the server: a whole snapshot, then each change, made anew when in doubt."""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable

import msgspec

from meshkit.bus import Bus
from meshkit.errors import PermissionsViolation, Unavailable
from meshkit.natspy import errors as nats_errors
from meshkit.telemetry import METRICS
from meshkit.wireform import parse_headers, status_of

CREATE_WITHIN_S = 5.0
HEARTBEAT_S = 1.0
HEARTBEATS_MISSED_MAX = 3
INACTIVE_S = 5.0
"""How long the server keeps a watch that nobody hears."""
BACKOFF_MIN_S = 0.1
BACKOFF_MAX_S = 2.0

logger = logging.getLogger(__name__)


class Item(msgspec.Struct, frozen=True):
    """What stands under a key: its stream sequence, bytes, and when the server took it (UTC, s)."""

    key: str
    revision: int
    data: bytes
    gone: bool
    stored_at_s: float


class Feed:
    """Calls ``whole`` with each snapshot, then ``changed`` for each change after it."""

    def __init__(
        self,
        bus: Bus,
        bucket: str,
        *,
        whole: Callable[[dict[str, Item]], None],
        changed: Callable[[Item], None],
    ) -> None:
        self.bucket = bucket
        self._bus = bus
        self._whole = whole
        self._changed = changed
        self._skip = len(f"$KV.{bucket}.")
        self._sid: int | None = None
        self._snapshot: dict[str, Item] | None = None
        self._next = 0
        self._heard_at = 0.0
        self._anew = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin. Raises ``PermissionsViolation`` where this bucket is not ours to watch."""
        self._bus.on_reconnect(self._again)
        try:
            await self._make()
        except Unavailable as fault:
            logger.warning("bucket %s cannot be watched yet: %s", self.bucket, fault)
            self._anew.set()
        except PermissionsViolation:
            self._bus.off_reconnect(self._again)
            self._drop()
            raise
        self._work = asyncio.create_task(self._watching(), name=f"watch {self.bucket}")

    async def close(self) -> None:
        """Watch no more."""
        self._bus.off_reconnect(self._again)
        if self._work is not None:
            self._work.cancel()
        self._drop()

    def _drop(self) -> None:
        if self._sid is not None:
            self._bus.connection.unlisten(self._sid)
            self._sid = None

    async def _again(self) -> None:
        # The server may have forgotten the watch, and would not say so.
        self._anew.set()

    async def _make(self) -> None:
        """Make a watch of a new name, on an inbox of its own: nothing of an older one is heard."""
        self._drop()
        inbox = f"{self._bus.inbox}.{secrets.token_hex(11)}"
        name = f"w_{secrets.token_hex(11)}"
        self._snapshot = {}
        self._next = 1
        self._heard_at = time.monotonic()
        self._sid = self._bus.connection.listen(inbox, self._heard)
        subjects = f"$KV.{self.bucket}.>"
        request = {
            "stream_name": f"KV_{self.bucket}",
            "config": {
                "name": name,
                "deliver_subject": inbox,
                "deliver_policy": "last_per_subject",
                "ack_policy": "none",
                "max_deliver": 1,
                "replay_policy": "instant",
                "filter_subject": subjects,
                "flow_control": True,
                "idle_heartbeat": int(HEARTBEAT_S * 1e9),
                "inactive_threshold": int(INACTIVE_S * 1e9),
                "mem_storage": True,
                "num_replicas": 1,
            },
        }
        answer = await self._bus.request(
            f"$JS.API.CONSUMER.CREATE.KV_{self.bucket}.{name}.{subjects}",
            json.dumps(request).encode(),
            within_s=CREATE_WITHIN_S,
        )
        if answer.status:
            raise Unavailable(f"bucket {self.bucket} cannot be watched (status {answer.status})")
        told = json.loads(answer.data)
        if "error" in told:
            raise Unavailable(f"bucket {self.bucket}: {told['error'].get('description')}")
        if told.get("num_pending", 0) == 0 and self._next == 1:
            # An empty bucket sends nothing that could say it is whole.
            self._finish()

    def _finish(self) -> None:
        if self._snapshot is not None:
            snapshot, self._snapshot = self._snapshot, None
            self._whole(snapshot)

    def _heard(self, subject: bytes, reply: bytes, data: bytes, block: bytes | None) -> None:
        self._heard_at = time.monotonic()
        if status_of(block) == 100:
            self._controlled(reply, block)
            return
        # $JS.ACK.…<delivered>.<stream's>.<consumer's>.<time, ns>.<pending>
        tokens = reply.rsplit(b".", 4)
        if int(tokens[2]) != self._next:
            self._missed()
            return
        self._next += 1
        operation = parse_headers(block).get("KV-Operation") if block is not None else None
        item = Item(
            subject[self._skip :].decode(),
            int(tokens[1]),
            data,
            operation in {"DEL", "PURGE"},
            int(tokens[3]) / 1e9,
        )
        if self._snapshot is None:
            self._changed(item)
            return
        self._snapshot[item.key] = item
        if tokens[4] == b"0":
            self._finish()

    def _controlled(self, reply: bytes, block: bytes | None) -> None:
        """Answer flow control; compare what was sent with what was heard."""
        if reply:
            self._bus.send(reply.decode(), b"")
            return
        headers = parse_headers(block)
        stalled = headers.get("Nats-Consumer-Stalled")
        if stalled:
            self._bus.send(stalled, b"")
        elif headers.get("Nats-Last-Consumer", str(self._next - 1)) != str(self._next - 1):
            self._missed()
        else:
            # Idle, and all was heard: what was pending at first has expired meanwhile.
            self._finish()

    def _missed(self) -> None:
        METRICS.count("mesh_bucket_gaps_total", bucket=self.bucket)
        self._drop()
        self._anew.set()

    async def _watching(self) -> None:
        failures = 0
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._anew.wait()
            except TimeoutError:
                silent_s = time.monotonic() - self._heard_at
                if not self._bus.connected or silent_s < HEARTBEAT_S * HEARTBEATS_MISSED_MAX:
                    continue
            try:
                await self._bus.wait_whole()
                self._anew.clear()
                METRICS.count("mesh_bucket_watches_renewed_total", bucket=self.bucket)
                await self._make()
                failures = 0
            except (Unavailable, PermissionsViolation, nats_errors.Error) as fault:
                if failures == 0:
                    logger.warning("bucket %s cannot be watched: %s", self.bucket, fault)
                await asyncio.sleep(min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2.0**failures))
                failures = min(failures + 1, 10)
                self._anew.set()
