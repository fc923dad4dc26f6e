"""The HTTP server itself: uvicorn without its signals, started late and stopped in order."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from meshkit.errors import ConfigError

from inference_gateway.heads import BoundedHeads

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

    async def serve(self) -> None:
        """Serve until told to stop."""
        looking = asyncio.create_task(self._look())
        try:
            await self._server.serve(sockets=[self._listening])
        finally:
            looking.cancel()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = loop.time()
            for connection in list(self._server.server_state.connections):
                assert isinstance(connection, BoundedHeads)
                connection.look(now)

    def stop_listening(self) -> None:
        """Take no more connections; those that are idle are closed."""
        self._server.should_exit = True

    @property
    def started(self) -> bool:
        """Whether requests are answered."""
        return bool(self._server.started)
