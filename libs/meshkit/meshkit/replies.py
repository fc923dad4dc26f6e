"""One inbox for every answer that is waited for: publish acknowledgements, asks, direct gets."""

import asyncio
import secrets
from collections.abc import Callable

import msgspec

from meshkit.connection import Connection
from meshkit.errors import Unavailable
from meshkit.telemetry import METRICS
from meshkit.wireform import parse_headers, status_of

INFLIGHT_MAX = 8_192
"""Answers waited for at once; past it a request is refused."""


class Reply(msgspec.Struct, frozen=True):
    """An answer as it came; ``status`` is the server's own (503 nobody there), else 0."""

    data: bytes
    block: bytes | None

    @property
    def status(self) -> int:
        """The status line's number, 0 where there is none."""
        return status_of(self.block)

    @property
    def headers(self) -> dict[str, str]:
        """The headers."""
        return parse_headers(self.block)


class Replies:
    """Who waits for what: futures by the last token of the inbox they are answered on."""

    def __init__(self, inbox: str) -> None:
        self._prefix = f"{inbox}.{secrets.token_hex(11)}."
        self._skip = len(self._prefix)
        self._waiting: dict[str, tuple[str, asyncio.Future[Reply]]] = {}
        self._serial = 0

    @property
    def subject(self) -> str:
        """What is subscribed to."""
        return f"{self._prefix}*"

    def listen(self, connection: Connection) -> None:
        """Hear answers on ``connection``, also after it reconnects."""
        connection.listen(self.subject, self._heard)

    def expect(self, subject: str) -> tuple[str, asyncio.Future[Reply]]:
        """Return where to be answered, and the answer to come. Raises ``Unavailable`` past the bound."""
        if len(self._waiting) >= INFLIGHT_MAX:
            METRICS.count("mesh_bus_inflight_refused_total")
            raise Unavailable("too many answers are waited for")
        self._serial += 1
        inbox = f"{self._prefix}{self._serial}"
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[inbox] = (subject, waiting)
        return inbox, waiting

    def forget(self, inbox: str) -> None:
        """Wait no more for what was expected at ``inbox``."""
        self._waiting.pop(inbox, None)

    def fail(self, fault: Callable[[], Exception], subject: str | None = None) -> None:
        """Have everyone who waits (on ``subject``, lower-cased) get a ``fault`` of his own at once."""
        for at, waiting in list(self._waiting.values()):
            if (subject is None or at.lower() == subject) and not waiting.done():
                waiting.set_exception(fault())

    def _heard(self, subject: bytes, _reply: bytes, data: bytes, block: bytes | None) -> None:
        found = self._waiting.get(subject.decode())
        if found is not None and not found[1].done():
            found[1].set_result(Reply(data, block))
