"""nats-py's connection, made lean and honest: plain callbacks, ordered pings, losses told at once.

This is the only place that knows nats-py's insides; ``tests/adapters/test_bus_faults.py`` holds it
to a real server that is killed, frozen and restarted.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

from meshkit import wireform
from meshkit.natspy import Client, Subscription, TcpTransport, errors
from meshkit.parsing import LineParser, Plain
from meshkit.telemetry import METRICS
from meshkit.ticks import tick

BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 1.0
REFUSED_BACKOFF_S = 2.0
"""Wait between attempts where the credentials are refused: the one who checks them is spared."""

logger = logging.getLogger(__name__)


class Joined(TcpTransport):
    """A socket that many small commands leave in one piece."""

    def __bool__(self) -> bool:
        # nats-py makes a transport of its own where this says no.
        return True

    def writelines(self, payload: list[bytes]) -> None:
        """Send all of it."""
        writer = self._io_writer
        assert writer is not None
        writer.write(b"".join(payload))


class Connection(Client):
    """A connection that calls ``lost`` in the moment it breaks, and keeps nothing for later."""

    def __init__(self, lost: Callable[[], None]) -> None:
        super().__init__()
        self._lost = lost
        self._plain: dict[int, Plain] = {}
        self._ps = LineParser(self, self._plain)  # type: ignore[assignment]
        self._transport = Joined()  # type: ignore[no-untyped-call]
        self._failures = 0
        self._refused = False

    def push(self, command: bytes) -> bool:
        """Send a command with the next flush; false, and nothing kept, while not connected."""
        if self._status != Client.CONNECTED:
            return False
        pending = self._pending
        if not pending:
            # Whoever was first has woken the flusher already.
            kicks = self._flush_queue
            assert kicks is not None
            if kicks.empty():
                kicks.put_nowait(asyncio.get_running_loop().create_future())
        pending.append(command)
        self._pending_data_size += len(command)
        return True

    @property
    def unsent_bytes(self) -> int:
        """How much waits here and in the socket's buffer."""
        writer = getattr(self._transport, "_io_writer", None)
        waiting = 0 if writer is None else writer.transport.get_write_buffer_size()
        return int(self._pending_data_size + waiting)

    def listen(self, subject: str, heard: Plain, queue: str = "") -> int:
        """Call ``heard`` for each message, at once and in order, also after a reconnect."""
        self._sid += 1
        sid: int = self._sid
        kept = Subscription(self, sid, subject, queue=queue)
        self._subs[sid] = kept
        self._plain[sid] = guarded(subject, heard)
        self.push(wireform.sub(subject, queue, sid))
        return sid

    def unlisten(self, sid: int) -> None:
        """Ask for no more messages; those on their way are dropped."""
        if self._subs.pop(sid, None) is not None:
            self.push(wireform.unsub(sid))
        self._plain.pop(sid, None)

    def hush(self, sid: int) -> None:
        """Ask for no more messages, but still hear those on their way (until ``unlisten``)."""
        if sid in self._subs:
            self.push(wireform.unsub(sid))

    async def barrier(self, timeout_s: int) -> None:
        """Return once the server has read all that was sent before. Raises what nats-py raises.

        One that begins while there is no connection fails at once: its PONG could never come.
        """
        if self._status != Client.CONNECTED:
            raise errors.ConnectionReconnectingError
        await self.flush(timeout=timeout_s)

    # What follows overrides nats-py.

    async def _send_ping(self, future: Any = None) -> None:
        # nats-py writes a PING ahead of what waits to be flushed, so its PONG says nothing about
        # that; written behind it, a PONG means that everything before was read.
        if self._pending and self._transport is not None:
            self._transport.writelines(self._pending)
            self._pending = []
            self._pending_data_size = 0
        await super()._send_ping(future)

    async def _ping_interval(self) -> None:
        # nats-py's loop, in step with whatever else of this process looks each second.
        while True:
            await tick(self.options["ping_interval"])
            if not self.is_connected:
                continue
            self._pings_outstanding += 1
            if self._pings_outstanding > self.options["max_outstanding_pings"]:
                await self._process_op_err(errors.StaleConnectionError())
                return
            try:
                await self._send_ping()
            except (RuntimeError, AttributeError):
                # The socket is gone: whoever reads from it says so.
                return

    async def _process_pong(self) -> None:
        # nats-py resolves a PONG whose waiter has given up, which ends its reading loop.
        if self._pongs:
            waiter = self._pongs.pop(0)
            if not waiter.done():
                waiter.set_result(True)
        self._pings_outstanding = 0

    async def _process_err(self, err_msg: str) -> None:
        if "permissions violation" in err_msg:
            await super()._process_err(err_msg)
            return
        # nats-py closes for ever on most of these (an expired credential among them).
        if "slow consumer" in err_msg:
            METRICS.count("mesh_bus_slow_consumers_total")
        fault = errors.Error(f"nats: {err_msg}")
        self._refused = "authentication" in err_msg or "authorization" in err_msg
        await self._error_cb(fault)
        await self._process_op_err(fault)

    async def _process_op_err(self, fault: Exception) -> None:
        was = self._status
        await super()._process_op_err(fault)
        if was == Client.CONNECTED and self._status != Client.CONNECTED:
            self._break()

    async def force_reconnect(self) -> None:
        """Drop this connection and make another."""
        was = self._status
        await super().force_reconnect()
        if was == Client.CONNECTED and self._status != Client.CONNECTED:
            self._break()

    async def _attempt_reconnect(self) -> None:
        try:
            await super()._attempt_reconnect()
        except Exception:
            logger.exception("reconnecting failed in an unforeseen way; the connection is given up")
            await self._close(Client.CLOSED)
        self._failures = 0
        self._refused = False

    async def _select_next_server(self) -> None:
        wait = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(self._failures, 10))
        if self._refused:
            wait = REFUSED_BACKOFF_S
        self.options["reconnect_time_wait"] = wait * random.uniform(0.75, 1.25)  # noqa: S311
        await super()._select_next_server()

    async def _connect_to_server(self, s: Any) -> None:
        self.abort()
        try:
            await super()._connect_to_server(s)
        except Exception:
            self._failures += 1
            wait = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(self._failures, 10))
            self.options["reconnect_time_wait"] = wait * random.uniform(0.75, 1.25)  # noqa: S311
            raise

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except Exception as fault:
            self._failures += 1
            self._refused = "authorization violation" in str(fault).lower()
            raise

    def _break(self) -> None:
        # What was not sent must not be sent after the reconnect: its sender has been told.
        self._pending = []
        self._pending_data_size = 0
        self._pongs, waiting = [], self._pongs
        for pong in waiting:
            if not pong.done():
                pong.set_exception(errors.ConnectionReconnectingError())
                # Nobody may be waiting for it.
                pong.exception()
        # A frozen server never takes what the socket still holds: closing would wait for it.
        self.abort()
        self._lost()

    def abort(self) -> None:
        """Drop the socket, if there is one, without waiting for what it holds."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()


def guarded(subject: str, heard: Plain) -> Plain:
    """Return ``heard``, which never raises: that would end nats-py's reading, silently and for ever."""

    def safely(at: bytes, reply: bytes, data: bytes, block: bytes | None) -> None:
        try:
            heard(at, reply, data, block)
        except Exception:
            METRICS.count("mesh_bus_callback_faults_total")
            logger.exception("a subscription's callback failed on %s", subject)

    return safely
