"""JetStream and asks from Python: one connection that knows when it is whole."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from mesh_contracts.ask import Ask, Principal, Problem
from nats import errors as nats_errors

from meshkit import calling
from meshkit.clock import Clock
from meshkit.config import Secret, Settings
from meshkit.connection import BACKOFF_MAX_S, Connection
from meshkit.errors import (
    ConfigError,
    MessageTooLarge,
    PermissionsViolation,
    StaleSnapshot,
    Unavailable,
)
from meshkit.replies import Replies, Reply
from meshkit.telemetry import METRICS
from meshkit.wireform import parse_headers, pub

PING_EVERY_S = 1
PINGS_MISSED_MAX = 2
"""A frozen server is noticed with the third ping."""
CONNECT_WITHIN_S = 2
STORE_WITHIN_S = 5.0
BARRIER_WITHIN_S = 5
RENEW_WITHIN_S = 10.0
CLOSE_WITHIN_S = 0.8
UNSENT_BYTES_MAX = 64 * 1024**2
"""What may wait for the socket; past it a publish is refused."""
PUBLISH = "publish"
SUBSCRIPTION = "subscription"
WRONG_LAST_SEQUENCE = (10071, 10164)

_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"')

logger = logging.getLogger(__name__)


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What came in on a subscription."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    reply: str


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A message as a stream keeps it."""

    subject: str
    data: bytes
    sequence: int
    headers: Mapping[str, str]


class _ApiError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct):
    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: _ApiError | None = None


_puback = msgspec.json.Decoder(_PubAck)


class Bus:
    """One authenticated connection; reconnects without end, fails what is in flight at once."""

    user: str
    connected: bool
    whole_since: float | None
    """Monotonic time since which the connection has been whole; ``None`` while it is not."""
    closed: asyncio.Event
    """Set once the connection is gone for ever without ``close`` being called: end the process."""

    def __init__(self, *, user: str, clock: Clock, secret: Secret, site: str, inbox: str) -> None:
        self.user = user
        self.clock = clock
        self.secret = secret
        self.site = site
        self.inbox = inbox
        self.connected = False
        self.whole_since = None
        self.closed = asyncio.Event()
        self.connection = Connection(self._on_lost)
        self.replies = Replies(inbox)
        self._whole = asyncio.Event()
        self._refused: dict[tuple[str, str], list[str]] = {}
        self._then: list[Callable[[], Awaitable[None]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._waits_said = False

    @classmethod
    async def connect(
        cls,
        settings: Settings,
        *,
        user: str,
        clock: Clock,
        secret: Secret,
        inbox_prefix: str | None = None,
        token: str | None = None,
    ) -> "Bus":
        """Return a connection as bus user ``user``. Waits for a server without end, but raises
        ``PermissionsViolation`` where the credentials are refused at the first attempt, and
        ``ConfigError`` where they cannot be read.
        """  # noqa: D205
        bus = cls(
            user=user,
            clock=clock,
            secret=secret,
            site=settings.mesh_site,
            inbox=inbox_prefix or f"_INBOX_{user}",
        )
        seed = _seed(settings)
        while not await bus._attempt(settings.nats_url.split(","), seed, token):  # noqa: ASYNC110
            await asyncio.sleep(BACKOFF_MAX_S)
        bus.replies.listen(bus.connection)
        bus._on_whole()
        try:
            await bus.confirm(SUBSCRIPTION, bus.replies.subject)
        except PermissionsViolation:
            await bus.close()
            raise
        return bus

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send on core NATS (samples, beats): may be lost. Dropped silently while not connected."""
        self.send(subject, data, "", headers)

    async def store(
        self,
        subject: str,
        data: bytes,
        *,
        msg_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Have a stream keep a message; return its sequence. Raises ``Unavailable`` (at once on a
        disconnect, without a leader, on a full stream), ``PermissionsViolation`` or
        ``MessageTooLarge``, and ``StaleSnapshot`` where an expected last sequence in ``headers``
        has moved on; the same ``msg_id`` may be sent again.
        """  # noqa: D205
        sent = dict(headers) if headers else {}
        if msg_id is not None:
            sent["Nats-Msg-Id"] = msg_id
        answer = await self.request(subject, data, sent, within_s=STORE_WITHIN_S)
        if answer.status:
            raise Unavailable(f"no stream takes {subject} now (status {answer.status})")
        try:
            ack = _puback.decode(answer.data)
        except msgspec.DecodeError as fault:
            raise Unavailable(f"{subject} was answered by something that is no stream") from fault
        if ack.error is not None:
            if ack.error.err_code in WRONG_LAST_SEQUENCE:
                raise StaleSnapshot(subject)
            raise Unavailable(f"the stream refused {subject}: {ack.error.description}")
        return ack.seq

    async def request(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, *, within_s: float
    ) -> Reply:
        """Return the first answer. Raises ``Unavailable`` (at once on a disconnect, else after
        ``within_s``) or ``PermissionsViolation``. An answer of status 503 is returned, not raised.
        """  # noqa: D205
        token, waiting = self.replies.expect(subject)
        try:
            if not self.send(subject, data, token, headers):
                raise Unavailable("the bus is not connected")
            async with asyncio.timeout(within_s):
                return await waiting
        except TimeoutError as late:
            raise Unavailable(f"no answer on {subject} within {within_s:g} s") from late
        finally:
            self.replies.forget(token)

    async def subscribe(
        self, subject: str, heard: Callable[[Message], None], queue: str = ""
    ) -> "Subscription":
        """Call ``heard`` for each message, inline: it may not be slow. Raises
        ``PermissionsViolation`` where it is not granted. One of ``queue`` hears each message.
        """  # noqa: D205

        def plain(at: bytes, reply: bytes, data: bytes, block: bytes | None) -> None:
            heard(
                Message(
                    subject=at.decode(), data=data, headers=parse_headers(block), reply=reply.decode()
                )
            )

        sid = self.connection.listen(subject, plain, queue)
        try:
            await self.confirm(SUBSCRIPTION, subject)
        except BaseException:
            self.connection.unlisten(sid)
            raise
        return Subscription(self.connection, sid)

    async def last(self, stream: str, subject: str) -> Stored | None:
        """Direct-get the last message of a subject, or nothing. Raises ``Unavailable``."""
        return await self._get(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"")

    async def at(self, stream: str, sequence: int) -> Stored | None:
        """Direct-get the first message of a stream at or after ``sequence``, or nothing."""
        wanted = b'{"seq":%d,"next_by_subj":">"}' % max(1, sequence)
        return await self._get(f"$JS.API.DIRECT.GET.{stream}", wanted)

    def wish(
        self,
        principal: Principal | str,
        *,
        timeout_s: float = 5.0,
        idempotency_key: str | None = None,
        site: str | None = None,
    ) -> dict[str, Any]:
        """Return the envelope of an ask: ``CreateProject(**bus.wish(principal), name=…)``.

        A ``Principal`` is sealed; a text is taken as it is. The trace is the current span's.
        """
        return calling.wish(
            self, principal, timeout_s=timeout_s, idempotency_key=idempotency_key, site=site
        )

    async def ask(self, ask: Ask, *, owner: str | None = None) -> Any | Problem:
        """Return the typed answer, or a problem: the owner's own, ``unavailable`` (503) where nobody
        answers, ``deadline_exceeded`` (504). ``owner`` names the one asked, for asks of any owner.
        Never raises for the peer's sake.
        """  # noqa: D205
        return await calling.ask(self, ask, owner)

    def on_reconnect(self, then: Callable[[], Awaitable[None]]) -> None:
        """Call ``then`` after each reconnect."""
        self._then.append(then)

    def off_reconnect(self, then: Callable[[], Awaitable[None]]) -> None:
        """Call ``then`` no more."""
        if then in self._then:
            self._then.remove(then)

    async def wait_whole(self) -> None:
        """Return once the connection is whole. Raises ``Unavailable`` where it is gone for ever."""
        while not self._whole.is_set():
            if self.closed.is_set() or self._closing:
                raise Unavailable("the bus is closed")
            _, rest = await asyncio.wait(
                [asyncio.ensure_future(event.wait()) for event in (self._whole, self.closed)],
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in rest:
                task.cancel()

    async def confirm(self, kind: str, subject: str) -> None:
        """Return once the server has read all that was sent. Raises ``PermissionsViolation`` where
        it refused ``kind`` (``PUBLISH``, ``SUBSCRIPTION``) on ``subject`` meanwhile.
        """  # noqa: D205
        key = (kind, subject.lower())
        said = self._refused.setdefault(key, [])
        try:
            while True:
                await self.wait_whole()
                try:
                    await self.connection.barrier(BARRIER_WITHIN_S)
                except (nats_errors.Error, OSError, TimeoutError):
                    # Broken meanwhile: a reconnect subscribes again, and the server may refuse then.
                    await asyncio.sleep(0)
                    continue
                break
            if said:
                raise PermissionsViolation(said[0])
        finally:
            self._refused.pop(key, None)

    def drop_token(self) -> None:
        """Present no token from the next connect on (it was for joining)."""
        self.connection.options["token"] = None

    async def renew(self) -> None:
        """Connect anew, with rights as they are now; before a credential expires, or after enrolment.

        What is in flight fails. Raises ``Unavailable`` where it is not whole again within
        ``RENEW_WITHIN_S``; the connection goes on trying.
        """
        await self.wait_whole()
        try:
            await self.connection.barrier(BARRIER_WITHIN_S)
        except (nats_errors.Error, OSError, TimeoutError):
            logger.info("the bus broke before its renewal")
        await self.connection.force_reconnect()
        try:
            async with asyncio.timeout(RENEW_WITHIN_S):
                await self.wait_whole()
        except TimeoutError:
            raise Unavailable("the bus does not let us in again yet") from None

    async def close(self) -> None:
        """Flush, and leave within a second."""
        self._closing = True
        for task in list(self._tasks):
            task.cancel()
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                if self.connected:
                    await self.connection.barrier(1)
                await self.connection.close()
        except (nats_errors.Error, OSError, TimeoutError):
            self.connection.abort()
        self._on_lost()

    def send(
        self, subject: str, data: bytes, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> bool:
        """Send with the next flush; false, and nothing kept, while not connected. Raises
        ``MessageTooLarge``, or ``Unavailable`` where too much waits to be sent.
        """  # noqa: D205
        connection = self.connection
        if len(data) > connection.max_payload:
            raise MessageTooLarge(f"{subject}: {len(data)} bytes, {connection.max_payload} at most")
        if connection.pending_data_size > UNSENT_BYTES_MAX:
            raise Unavailable("the bus takes no more now: too much waits to be sent")
        return connection.push(pub(subject, data, reply, headers))

    async def _get(self, subject: str, wanted: bytes) -> Stored | None:
        answer = await self.request(subject, wanted, within_s=STORE_WITHIN_S)
        if answer.status == 404:
            return None
        if answer.status:
            raise Unavailable(f"nothing could be read from {subject} (status {answer.status})")
        headers = answer.headers
        return Stored(
            subject=headers.get("Nats-Subject", ""),
            data=answer.data,
            sequence=int(headers.get("Nats-Sequence", "0")),
            headers=headers,
        )

    async def _attempt(self, urls: list[str], seed: str | None, token: str | None) -> bool:
        try:
            await self.connection.connect(
                servers=urls,
                name=self.user,
                error_cb=self._on_error,
                reconnected_cb=self._on_reconnected,
                closed_cb=self._on_closed,
                connect_timeout=CONNECT_WITHIN_S,
                max_reconnect_attempts=-1,
                ping_interval=PING_EVERY_S,
                max_outstanding_pings=PINGS_MISSED_MAX,
                pending_size=UNSENT_BYTES_MAX,
                flush_timeout=BARRIER_WITHIN_S,
                inbox_prefix=self.inbox,
                token=token,
                nkeys_seed_str=seed,
                # Only while it connects for the first time: else a refusal would be tried for ever.
                allow_reconnect=False,
            )
        except (OSError, nats_errors.Error, TimeoutError) as fault:
            self.connection.abort()
            self.connection = Connection(self._on_lost)
            if "authorization" in str(fault).lower() or "authentication" in str(fault).lower():
                raise PermissionsViolation(
                    f"the bus refuses the credentials of {self.user}: check NATS_CREDENTIALS"
                ) from fault
            return False
        self.connection.options["allow_reconnect"] = True
        return True

    def _on_whole(self) -> None:
        self.connected = True
        self.whole_since = self.clock.monotonic()
        self._waits_said = False
        self._whole.set()
        METRICS.set("mesh_bus_connected", 1)

    def _on_lost(self) -> None:
        self.connected = False
        self.whole_since = None
        self._whole.clear()
        METRICS.set("mesh_bus_connected", 0)
        self.replies.fail(
            Unavailable("the bus was lost; what was in flight may or may not have arrived")
        )

    async def _on_reconnected(self) -> None:
        self._on_whole()
        METRICS.count("mesh_bus_reconnects_total")
        logger.info("the bus is whole again")
        for then in self._then:
            task = asyncio.ensure_future(self._after(then))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _after(self, then: Callable[[], Awaitable[None]]) -> None:
        try:
            await then()
        except Exception:
            logger.exception("what should follow a reconnect failed")

    async def _on_closed(self) -> None:
        if not self._closing:
            logger.error("the bus is closed for ever: this process should end")
            self.closed.set()
        self._on_lost()

    async def _on_error(self, fault: Exception) -> None:
        text = str(fault)
        found = _VIOLATION.search(text)
        if found is not None:
            kind, subject = found.groups()
            METRICS.count("mesh_bus_permission_violations_total", kind=kind)
            logger.warning("the bus refused a %s on %s", kind, subject)
            if kind == PUBLISH:
                self.replies.fail(PermissionsViolation(text), subject)
            if (kind, subject) in self._refused:
                self._refused[kind, subject].append(text)
            return
        if isinstance(fault, nats_errors.SlowConsumerError):
            METRICS.count("mesh_bus_slow_consumers_total")
        METRICS.count("mesh_bus_errors_total")
        if not self._waits_said:
            # Once an outage, not once an attempt.
            self._waits_said = True
            logger.warning("the bus: %s", text or type(fault).__name__)


class Subscription:
    """A live subscription."""

    def __init__(self, connection: Connection, sid: int) -> None:
        self._connection = connection
        self._sid = sid

    async def stop(self) -> None:
        """Hear no more."""
        self._connection.unlisten(self._sid)


def _seed(settings: Settings) -> str | None:
    """Return the nkey seed; nothing for an empty file (a server that asks for none)."""
    path = settings.nats_credentials
    try:
        return path.read_text().strip() or None
    except OSError as fault:
        raise ConfigError(
            f"NATS_CREDENTIALS: {path}: {fault.strerror}; it should hold an nkey seed"
        ) from fault
