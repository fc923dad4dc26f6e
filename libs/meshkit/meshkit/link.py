"""The life of a connection to the bus: let in, whole, lost, whole again, refused, closed."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping

from meshkit.clock import Clock
from meshkit.config import Secret, Settings
from meshkit.connection import BACKOFF_MAX_S, Connection
from meshkit.errors import ConfigError, MessageTooLarge, PermissionsViolation, Unavailable
from meshkit.natspy import errors as nats_errors
from meshkit.replies import Replies
from meshkit.telemetry import METRICS
from meshkit.wireform import pub

PING_EVERY_S = 1
PINGS_MISSED_MAX = 2
"""A frozen server is noticed with the third ping."""
CONNECT_WITHIN_S = 1.5
"""Less than the two seconds that a server waits for its callout: silence there is no refusal."""
BARRIER_WITHIN_S = 5
RENEW_WITHIN_S = 10.0
CLOSE_WITHIN_S = 0.8
UNSENT_BYTES_MAX = 64 * 1024**2
"""What may wait for the socket; past it a publish is refused."""

PUBLISH = "publish"
SUBSCRIPTION = "subscription"

_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"')
BROKEN = (nats_errors.Error, OSError, TimeoutError)

logger = logging.getLogger(__name__)


class Link:
    """One authenticated connection, which knows when it is whole and tells when it is lost."""

    user: str
    connected: bool
    whole_since: float | None
    """Monotonic time since which the connection has been whole; ``None`` while it is not."""
    closed: asyncio.Event
    """Set once the connection is gone for ever though nobody closed it: end the process."""

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
        self._trouble_said = False

    def send(
        self, subject: str, data: bytes, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> bool:
        """Send with the next flush; false, and nothing kept, while not connected.

        Raises ``MessageTooLarge``, or ``Unavailable`` where too much waits to be sent.
        """
        connection = self.connection
        if len(data) > connection.max_payload:
            raise MessageTooLarge(f"{subject}: {len(data)} bytes, {connection.max_payload} at most")
        if connection.pending_data_size > UNSENT_BYTES_MAX:
            raise Unavailable("the bus takes no more now: too much waits to be sent")
        return connection.push(pub(subject, data, reply, headers))

    def on_reconnect(self, then: Callable[[], Awaitable[None]]) -> None:
        """Call ``then`` after each reconnect."""
        self._then.append(then)

    def off_reconnect(self, then: Callable[[], Awaitable[None]]) -> None:
        """Call ``then`` no more."""
        if then in self._then:
            self._then.remove(then)

    async def wait_whole(self) -> None:
        """Return once the connection is whole. Raises ``Unavailable`` where it is gone for ever."""
        while not self.connected:
            await self._whole.wait()
            if self._closing or self.closed.is_set():
                raise Unavailable("the bus is closed")

    async def confirm(self, kind: str, subject: str) -> None:
        """Return once the server has read all that was sent, and refused no ``kind`` on ``subject``.

        ``kind`` is ``PUBLISH`` or ``SUBSCRIPTION``. Raises ``PermissionsViolation`` where it did.
        """
        said = self._refused.setdefault((kind, subject.lower()), [])
        try:
            while True:
                await self.wait_whole()
                try:
                    await self.connection.barrier(BARRIER_WITHIN_S)
                except BROKEN:
                    # A reconnect subscribes again, and the server may refuse then.
                    await asyncio.sleep(0)
                    continue
                break
            if said:
                raise PermissionsViolation(said[0])
        finally:
            self._refused.pop((kind, subject.lower()), None)

    def drop_token(self) -> None:
        """Present no token from the next connect on (it was for joining)."""
        self.connection.options["token"] = None

    async def renew(self) -> None:
        """Connect anew, with rights as they are now; before a credential expires, or after enrolment.

        What is in flight fails. Raises ``Unavailable`` where it is not whole again within
        ``RENEW_WITHIN_S``; the connection goes on trying.
        """
        try:
            async with asyncio.timeout(RENEW_WITHIN_S):
                await self.wait_whole()
                await self._settled()
                await self.connection.force_reconnect()
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
                    await self._settled()
                await self.connection.close()
        except BROKEN:
            self.connection.abort()
        self._on_lost()
        self._whole.set()

    async def _open(self, settings: Settings, token: str | None) -> None:
        """Connect for the first time, and hear answers. Raises ``PermissionsViolation``."""
        seed = _seed(settings)
        urls = settings.nats_url.split(",")
        while not await self._let_in(urls, seed, token):  # noqa: ASYNC110 - nothing to be woken by
            await asyncio.sleep(BACKOFF_MAX_S)
        self.replies.listen(self.connection)
        if self.connection.is_connected:
            # Else it was lost in that moment, and is whole with its first reconnect.
            self._on_whole()
        try:
            await self.confirm(SUBSCRIPTION, self.replies.subject)
        except PermissionsViolation:
            await self.close()
            raise

    async def _let_in(self, urls: list[str], seed: str | None, token: str | None) -> bool:
        try:
            await self.connection.connect(
                servers=urls,
                name=self.user,
                error_cb=self._on_error,
                reconnected_cb=self._on_reconnected,
                closed_cb=self._on_closed,
                connect_timeout=CONNECT_WITHIN_S,  # type: ignore[arg-type]
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
        except BROKEN as fault:
            self.connection.abort()
            self.connection = Connection(self._on_lost)
            if "authorization" in str(fault).lower() or "authentication" in str(fault).lower():
                raise PermissionsViolation(
                    f"the bus refuses the credentials of {self.user}: check NATS_CREDENTIALS"
                ) from fault
            return False
        self.connection.options["allow_reconnect"] = True
        return True

    async def _settled(self) -> None:
        try:
            await self.connection.barrier(BARRIER_WITHIN_S)
        except BROKEN as fault:
            logger.info("the bus broke before its last word: %s", fault)

    def _on_whole(self) -> None:
        self.connected = True
        self.whole_since = self.clock.monotonic()
        self._trouble_said = False
        self._whole.set()
        METRICS.set("mesh_bus_connected", 1)
        for name in (
            "mesh_bus_reconnects_total",
            "mesh_bus_slow_consumers_total",
            "mesh_bus_errors_total",
        ):
            METRICS.count(name, 0)

    def _on_lost(self) -> None:
        self.connected = False
        self.whole_since = None
        self._whole.clear()
        METRICS.set("mesh_bus_connected", 0)
        self.replies.fail(
            lambda: Unavailable("the bus was lost; what was in flight may or may not have arrived")
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
        self._on_lost()
        if not self._closing:
            logger.error("the bus is closed for ever: this process should end")
            self.closed.set()
        # Whoever waits for it to be whole is told that it never will be.
        self._whole.set()

    async def _on_error(self, fault: Exception) -> None:
        text = str(fault)
        found = _VIOLATION.search(text)
        if found is not None:
            # Subjects come back in lower case.
            kind, subject = found.groups()
            METRICS.count("mesh_bus_permission_violations_total", kind=kind)
            logger.warning("the bus refused a %s on %s", kind, subject)
            if kind == PUBLISH:
                self.replies.fail(lambda: PermissionsViolation(text), subject)
            if (kind, subject) in self._refused:
                self._refused[kind, subject].append(text)
            return
        if isinstance(fault, nats_errors.SlowConsumerError):
            METRICS.count("mesh_bus_slow_consumers_total")
        METRICS.count("mesh_bus_errors_total")
        if not self._trouble_said:
            # Once an outage, not once an attempt.
            self._trouble_said = True
            logger.warning("the bus: %s", text or type(fault).__name__)


def _seed(settings: Settings) -> str | None:
    """Return the nkey seed; nothing for an empty file (a server that asks for none)."""
    path = settings.nats_credentials
    try:
        return path.read_text().strip() or None
    except OSError as fault:
        raise ConfigError(
            f"NATS_CREDENTIALS: {path}: {fault.strerror}; it should hold an nkey seed"
        ) from fault
