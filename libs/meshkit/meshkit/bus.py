"""JetStream and asks from Python: one connection that knows when it is whole."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from mesh_contracts.ask import Ask, Principal, Problem
from meshkit.clock import Clock
from meshkit.config import Secret, Settings


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


class Bus:
    """One authenticated connection; reconnects without end, fails what is in flight at once."""

    user: str
    connected: bool
    whole_since: float | None
    """Monotonic time since which the connection has been whole; ``None`` while it is not."""

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
        ``PermissionsViolation`` where the credentials are refused at the first attempt.
        """
        raise NotImplementedError

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send on core NATS (samples, beats): may be lost. Dropped silently while not connected."""
        raise NotImplementedError

    async def store(
        self, subject: str, data: bytes, *, msg_id: str | None = None, headers: Mapping[str, str] | None = None
    ) -> int:
        """Have a stream keep a message; return its sequence. Raises ``Unavailable`` (at once on a
        disconnect, without a leader, on a full stream) or ``PermissionsViolation``; the same
        ``msg_id`` may be sent again.
        """
        raise NotImplementedError

    async def subscribe(self, subject: str, heard: Callable[[Message], None]) -> "Subscription":
        """Call ``heard`` for each message. Raises ``PermissionsViolation`` where it is not granted."""
        raise NotImplementedError

    async def last(self, stream: str, subject: str) -> Stored | None:
        """Direct-get the last message of a subject, or nothing. Raises ``Unavailable``."""
        raise NotImplementedError

    async def at(self, stream: str, sequence: int) -> Stored | None:
        """Direct-get the first message of a stream at or after ``sequence``, or nothing."""
        raise NotImplementedError

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
        raise NotImplementedError

    async def ask(self, ask: Ask, *, owner: str | None = None) -> Any | Problem:
        """Return the typed answer, or a problem: the owner's own, ``unavailable`` (503) where nobody
        answers, ``deadline_exceeded`` (504). ``owner`` names the one asked, for asks of any owner.
        Never raises for the peer's sake.
        """
        raise NotImplementedError

    def on_reconnect(self, then: Callable[[], Awaitable[None]]) -> None:
        """Call ``then`` after each reconnect."""
        raise NotImplementedError

    async def close(self) -> None:
        """Flush, and leave within a second."""
        raise NotImplementedError


class Subscription:
    """A live subscription."""

    async def stop(self) -> None:
        """Hear no more."""
        raise NotImplementedError
