"""The HTTP server itself: uvicorn without its signals, started late and stopped in order."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from meshkit.errors import ConfigError

from inference_gateway.heads import BoundedHeads, Shared

BACKLOG = 2_048
CONNECTIONS_MAX = 16_384
"""Connections at once; on further ones a request is answered 503."""

FILES_MAX = 65_536
"""Open files this process asks for: a call holds two, the client's and the engine's."""

LOOK_EVERY_S = 0.25
"""How often connections are looked at for what is late."""

KEEPALIVE_S = 75
GRACE_S = 3
"""How long a request may take to end once the door stops; longer than calls are given."""


class _Quiet(uvicorn.Server):
    """A server that leaves the signals to the service."""

    server_state: Shared

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state = Shared()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a bound socket that listens. Raises ``ConfigError`` where the port is taken.

    A ``shared`` one is a port's beside others of the same user, and listens only once it is served: the
    kernel gives each that listens its part of the connections, whether anybody answers there or not.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((host, port))
        if not shared:
            # Two binds of one port may both succeed until one of them listens.
            listening.listen(BACKLOG)
    except OSError as fault:
        listening.close()
        raise ConfigError(
            f"{host}:{port}: {fault.strerror}; set GATEWAY_PORT to a free port"
        ) from fault
    return listening


def allow_files() -> None:
    """Raise this process's bound of open files as far as it may, up to ``FILES_MAX``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES_MAX if hard == resource.RLIM_INFINITY else min(FILES_MAX, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class Server:
    """Serves ``app`` on a socket that is bound, and listens at the latest then."""

    def __init__(self, app: Any, listening: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            interface="asgi3",
            http=BoundedHeads,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=KEEPALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        self._server = _Quiet(config)
        self._listening = listening
        self._let_in: list[asyncio.Task[Any]] = []
        self._ended = asyncio.Event()

    async def serve(self) -> None:
        """Serve until told to stop, and until every connection is closed then."""
        looking = asyncio.create_task(self._look())
        try:
            await self._server.serve(sockets=[self._listening])
        finally:
            looking.cancel()
            self._ended.set()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = loop.time()
            for connection in list(self._server.server_state.connections):
                assert isinstance(connection, BoundedHeads)
                connection.look(now)

    def stop_listening(self) -> None:
        """Take no more connections from this moment on. Those there are may make the request they are about to.

        Whoever comes next is sent to another gateway of the port, where there is one; who has come already is
        let in: a socket that is closed resets whatever waits in front of it.
        """
        self._server.server_state.stopping = True
        if self._server.started:
            self._let_in = [self._take(connection) for connection in self._waiting()]
            for server in self._server.servers:
                server.close()
        self._server.should_exit = True

    async def ended(self, within_s: float) -> None:
        """Return once every connection is closed, or after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._ended.wait()

    def _waiting(self) -> Iterator[socket.socket]:
        """Yield the connections that nobody has taken yet."""
        with contextlib.suppress(OSError):
            for _ in range(BACKLOG):
                yield self._listening.accept()[0]

    def _take(self, connection: socket.socket) -> asyncio.Task[Any]:
        loop = asyncio.get_running_loop()

        def protocol() -> BoundedHeads:
            server = self._server
            return BoundedHeads(
                config=server.config, server_state=server.server_state, app_state=server.lifespan.state
            )

        connection.setblocking(False)
        return loop.create_task(loop.connect_accepted_socket(protocol, connection))

    @property
    def started(self) -> bool:
        """Whether requests are answered."""
        return bool(self._server.started)
