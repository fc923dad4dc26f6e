"""A continuous pull from one declared consumer: asked for ahead, acknowledged one by one, never cancelled."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from functools import cached_property

from meshkit.bus import BARRIER_WITHIN_S, PUBLISH, Bus
from meshkit.telemetry import METRICS
from meshkit.wireform import description_of, parse_headers, status_of

BATCH = 500
"""Messages asked for ahead."""
HOLD_BATCHES = 2
"""Batches asked for or in hand at once; past it nothing more is asked for."""
HOLD_BYTES = 4 * 1024**2
"""Nor past so many bytes in hand; and no request brings more of them, however large its messages are."""
EXPIRES_S = 30.0
HEARTBEAT_S = 1.0
HEARTBEATS_MISSED_MAX = 2
BACKOFF_MIN_S = 0.1
BACKOFF_MAX_S = 2.0

_EXPIRED = 408
_FULL = "Message Size Exceeds MaxBytes"
"""How a request ends that has brought its bytes."""
_DONE = "Batch Completed"
"""How a request ends that has brought all it was to."""

logger = logging.getLogger(__name__)


class Pulled:
    """A message as the consumer delivered it; what costs is read only when it is asked for."""

    __slots__ = ("__dict__", "_block", "ack_to", "data", "settled", "subject")

    def __init__(self, subject: str, data: bytes, ack_to: bytes, block: bytes | None) -> None:
        self.subject = subject
        self.data = data
        self.ack_to = ack_to
        self._block = block
        self.settled = False

    @cached_property
    def headers(self) -> dict[str, str]:
        """Its headers."""
        return parse_headers(self._block)

    @property
    def raw_headers(self) -> bytes | None:
        """Its headers as they came, for whoever looks for one of them many times a second."""
        return self._block

    @property
    def reply(self) -> str:
        """Where it is acknowledged; the consumer's counts stand in it."""
        return self.ack_to.decode()

    @property
    def sequence(self) -> int:
        """Its place in the stream."""
        return int(self.ack_to.rsplit(b".", 5)[2])

    @property
    def delivered(self) -> int:
        """How many times it has been delivered, this time included."""
        return int(self.ack_to.rsplit(b".", 5)[1])


class Pull:
    """Calls what ``start`` is given inline for each message; each is settled once, by ``ack``, ``nak`` or ``forget``.

    Messages that are not settled count as in hand: past ``HOLD_BATCHES`` batches or ``HOLD_BYTES`` no more are
    asked for.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        consumer: str,
        *,
        batch: int = BATCH,
    ) -> None:
        self.name = consumer
        self._bus = bus
        self._push = bus.connection.push
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._heard: Callable[[Pulled], None] = self.forget
        self._batch = batch
        self._hold = batch * HOLD_BATCHES
        self._asked = 0
        self._in_hand = 0
        self._bytes = 0
        self._sid: int | None = None
        self._inbox = ""
        self._requests = 0
        self._heard_at = 0.0
        self._last = b""
        self._failures = 0
        self._paused_until = 0.0
        self._stopping = False
        self._give_back = True
        self._watch: asyncio.Task[None] | None = None

    @property
    def in_hand(self) -> int:
        """How many messages were delivered and not settled yet."""
        return self._in_hand

    @property
    def _pending(self) -> int:
        """How many the server had still to deliver, as it said with the last delivery."""
        return int(self._last.rsplit(b".", 1)[1]) if self._last else 0

    async def start(self, heard: Callable[[Pulled], None]) -> None:
        """Begin to call ``heard``. Raises ``PermissionsViolation`` where this consumer is not ours to pull from."""
        assert self._watch is None, "started already"
        self._heard = heard
        self._begin()
        self._bus.on_reconnect(self._again)
        try:
            await self._bus.confirm(PUBLISH, self._next)
        except BaseException:
            self._bus.off_reconnect(self._again)
            self._end()
            raise
        self._watch = asyncio.create_task(self._watching(), name=f"pull {self.name}")

    def ack(self, message: Pulled) -> None:
        """Never deliver it again. May be lost with the connection: then it is delivered again."""
        self._push(b"PUB " + message.ack_to + b" 4\r\n+ACK\r\n")
        self.forget(message)

    def nak(self, message: Pulled, delay_s: float = 0.0) -> None:
        """Deliver it again, not before ``delay_s``."""
        body = b'-NAK {"delay": %d}' % int(delay_s * 1e9) if delay_s > 0 else b"-NAK"
        self._push(b"PUB %b %d\r\n%b\r\n" % (message.ack_to, len(body), body))
        self.forget(message)

    def working(self, message: Pulled) -> None:
        """Do not deliver it again for another ack wait."""
        self._push(b"PUB " + message.ack_to + b" 4\r\n+WPI\r\n")

    def forget(self, message: Pulled) -> None:
        """Hold it no more, without a word to the server."""
        if message.settled:
            return
        message.settled = True
        self._in_hand -= 1
        self._bytes -= len(message.data)
        # Asked for half a batch at a time: one request for many messages.
        if self._asked + self._batch // 2 <= self._batch:
            self._refill()

    async def stop(self, *, give_back: bool = True) -> None:
        """Ask for no more; what still comes is given back at once. In hand stays the caller's.

        Without ``give_back`` what still comes is the caller's, too: to be given back in order.
        """
        if self._stopping:
            return
        self._stopping = True
        self._give_back = give_back
        self._bus.off_reconnect(self._again)
        if self._watch is not None:
            self._watch.cancel()
        if self._sid is not None and self._bus.connected:
            self._bus.connection.hush(self._sid)
            try:
                await self._bus.connection.barrier(BARRIER_WITHIN_S)
            except Exception as fault:  # noqa: BLE001 - the server gives back what we could not
                logger.info("%s: stopped without a last word: %s", self.name, fault)
        self._end()

    def _begin(self) -> None:
        """Listen on an inbox of its own, so that requests of before find nobody, and ask."""
        self._end()
        self._inbox = f"{self._bus.inbox}.{secrets.token_hex(11)}"
        self._sid = self._bus.connection.listen(f"{self._inbox}.*", self._on_message)
        self._asked = 0
        self._heard_at = time.monotonic()
        self._refill()

    def _end(self) -> None:
        if self._sid is not None:
            self._bus.connection.unlisten(self._sid)
            self._sid = None

    async def _again(self) -> None:
        if not self._stopping:
            self._failures = 0
            self._paused_until = 0.0
            self._begin()

    def _refill(self) -> None:
        count = min(self._batch - self._asked, self._hold - self._in_hand - self._asked)
        full = count <= 0 or self._bytes >= HOLD_BYTES
        if full or self._stopping or time.monotonic() < self._paused_until:
            return
        body = b'{"batch":%d,"max_bytes":%d,"expires":%d,"idle_heartbeat":%d}' % (
            count,
            HOLD_BYTES,
            int(EXPIRES_S * 1e9),
            int(HEARTBEAT_S * 1e9),
        )
        self._requests += 1
        head = f"PUB {self._next} {self._inbox}.{self._requests} {len(body)}\r\n".encode()
        if self._push(head + body + b"\r\n"):
            self._asked += count

    def _on_message(self, subject: bytes, reply: bytes, data: bytes, block: bytes | None) -> None:
        self._heard_at = time.monotonic()
        if not reply.startswith(b"$JS.ACK."):
            self._on_status(block)
            return
        message = Pulled(subject.decode(errors="replace"), data, reply, block)
        self._last = reply
        self._in_hand += 1
        self._bytes += len(data)
        if self._stopping and self._give_back:
            self.nak(message)
            return
        self._failures = 0
        self._asked -= 1
        if self._asked + self._batch // 2 <= self._batch:
            self._refill()
        self._heard(message)

    def _on_status(self, block: bytes | None) -> None:
        status = status_of(block)
        if status == 100 or block is None:
            return
        # A request has ended; what it did not bring is to be asked for again.
        unmet, why = parse_headers(block).get("Nats-Pending-Messages", ""), description_of(block)
        if unmet.isdigit() or why != _DONE:
            self._asked = max(0, self._asked - int(unmet)) if unmet.isdigit() else 0
        if status == _EXPIRED or why in {_FULL, _DONE}:
            self._refill()
            return
        METRICS.count("mesh_pull_refusals_total", consumer=self.name, status=str(status))
        wait = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2.0**self._failures)
        self._failures += 1
        if self._failures == 1:
            logger.warning("%s: %d %s", self.name, status, why)
        self._paused_until = time.monotonic() + wait
        asyncio.get_running_loop().call_later(wait, self._after_pause)

    def _after_pause(self) -> None:
        if not self._stopping and self._sid is not None:
            self._paused_until = 0.0
            if self._asked == 0:
                self._refill()

    async def _watching(self) -> None:
        """Ask anew where the server has gone silent on us: no message, no heartbeat."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            METRICS.set("mesh_pull_in_hand", self._in_hand, consumer=self.name)
            METRICS.set("mesh_consumer_backlog", self._in_hand + self._pending, consumer=self.name)
            silent_s = time.monotonic() - self._heard_at
            if not self._bus.connected or self._in_hand >= self._hold or self._bytes >= HOLD_BYTES:
                self._heard_at = time.monotonic()
                continue
            if silent_s > HEARTBEAT_S * (HEARTBEATS_MISSED_MAX + 0.5):
                METRICS.count("mesh_pull_renewals_total", consumer=self.name)
                self._paused_until = 0.0
                self._begin()


def header_in(block: bytes | None, name: bytes) -> str | None:
    """Return one header of a raw block without reading the others; ``name`` as it is written."""
    if block is None:
        return None
    at = block.find(b"\r\n" + name + b":")
    if at < 0:
        return None
    begin = at + len(name) + 3
    return block[begin : block.find(b"\r\n", begin)].strip().decode("utf-8", "replace")


__all__ = ["BATCH", "Pull", "Pulled", "header_in"]
