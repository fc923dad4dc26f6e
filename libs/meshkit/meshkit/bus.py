"""JetStream and asks from Python: one connection that knows when it is whole."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from mesh_contracts.ask import Ask, Principal, Problem

from meshkit import calling
from meshkit.clock import Clock
from meshkit.config import Secret, Settings
from meshkit.connection import Connection
from meshkit.errors import StaleSnapshot, Unavailable
from meshkit.link import BARRIER_WITHIN_S, BROKEN, PUBLISH, SUBSCRIPTION, Link
from meshkit.replies import Reply
from meshkit.telemetry import METRICS
from meshkit.wireform import parse_headers

STORE_WITHIN_S = 5.0
WRONG_LAST_SEQUENCE = (10071, 10164)
"""The server's codes for: another sequence stands last than was expected."""
NOT_FOUND = 404

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


class Bus(Link):
    """One authenticated connection; reconnects without end, fails what is in flight at once."""

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
        """Return a connection as bus user ``user``.

        Waits for a server without end, but raises ``PermissionsViolation`` where the credentials
        are refused at the first attempt, and ``ConfigError`` where they cannot be read.
        """
        inbox = inbox_prefix or f"_INBOX_{user}"
        bus = cls(user=user, clock=clock, secret=secret, site=settings.mesh_site, inbox=inbox)
        await bus._open(settings, token)
        return bus

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send on core NATS (samples, beats): may be lost. Dropped silently while not connected."""
        try:
            kept = self.send(subject, data, "", headers)
        except Unavailable:
            kept = False
        if not kept:
            METRICS.count("mesh_bus_dropped_total")

    async def store(
        self,
        subject: str,
        data: bytes,
        *,
        msg_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Have a stream keep a message; return its sequence.

        Raises ``Unavailable`` (at once on a disconnect, without a leader, on a full stream),
        ``PermissionsViolation`` or ``MessageTooLarge``, and ``StaleSnapshot`` where an expected
        last sequence in ``headers`` has moved on. The same ``msg_id`` may be sent again.
        """
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
        """Return the first answer; one that says 503 (nobody there) is returned, too.

        Raises ``Unavailable`` (at once on a disconnect, else after ``within_s``, then caused by a
        ``TimeoutError``), ``PermissionsViolation`` or ``MessageTooLarge``.
        """
        inbox, waiting = self.replies.expect(subject)
        try:
            if not self.send(subject, data, inbox, headers):
                raise Unavailable("the bus is not connected")
            async with asyncio.timeout(within_s):
                return await waiting
        except TimeoutError as late:
            raise Unavailable(f"no answer on {subject} within {within_s:g} s") from late
        finally:
            self.replies.forget(inbox)

    async def subscribe(
        self, subject: str, heard: Callable[[Message], None], queue: str = ""
    ) -> "Subscription":
        """Call ``heard`` for each message, inline: it may not be slow.

        Of those who share a ``queue`` one hears each. Raises ``PermissionsViolation`` where it is
        not granted.
        """

        def plain(at: bytes, reply: bytes, data: bytes, block: bytes | None) -> None:
            headers = parse_headers(block)
            heard(Message(subject=at.decode(), data=data, headers=headers, reply=reply.decode()))

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
        """Return the typed answer, or a problem; never raises for the peer's sake.

        A problem is the owner's own, or ``unavailable`` (503) where nobody answers, or
        ``deadline_exceeded`` (504). ``owner`` names the one asked, for asks of any owner.
        """
        return await calling.ask(self, ask, owner)

    async def _get(self, subject: str, wanted: bytes) -> Stored | None:
        answer = await self.request(subject, wanted, within_s=STORE_WITHIN_S)
        if answer.status == NOT_FOUND:
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


class Subscription:
    """A live subscription."""

    def __init__(self, connection: Connection, sid: int) -> None:
        self._connection = connection
        self._sid = sid

    async def stop(self) -> None:
        """Hear no more."""
        self._connection.unlisten(self._sid)

    async def drain(self) -> None:
        """Ask for no more, hear what is on its way, then hear no more."""
        self._connection.hush(self._sid)
        try:
            await self._connection.barrier(BARRIER_WITHIN_S)
        except BROKEN as fault:
            logger.info("a subscription ended with its connection: %s", fault)
        self._connection.unlisten(self._sid)


__all__ = ["BARRIER_WITHIN_S", "PUBLISH", "SUBSCRIPTION", "Bus", "Message", "Stored", "Subscription"]
