"""/livez, /readyz and /metrics: what whoever runs a service asks it."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from typing import Any

from meshkit.errors import ConfigError

CONCURRENCY_MAX = 32
"""Requests at once; further ones are answered 503."""

START_WITHIN_S = 10.0
STOP_WITHIN_S = 1.0

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Missing = Callable[[], Sequence[str]]


class Ops:
    """The port where a service can be asked about itself."""

    def __init__(
        self,
        host: str,
        port: int,
        server: Any,
        serving: "asyncio.Task[None]",
        stopping: asyncio.Event,
    ) -> None:
        self.host = host
        self.port = port
        self._server = server
        self._serving = serving
        self._stopping = stopping

    async def close(self) -> None:
        """Stop listening, within a second."""
        self._server.should_exit = True
        self._stopping.set()
        done, _ = await asyncio.wait({self._serving}, timeout=STOP_WITHIN_S)
        if not done:
            self._serving.cancel()
            await asyncio.wait({self._serving}, timeout=STOP_WITHIN_S)


async def serve_ops(
    port: int,
    *,
    live: Missing,
    ready: Missing,
    metrics: Callable[[], bytes],
    host: str = "127.0.0.1",
) -> Ops:
    """Return the ops port, listening (``.port``; port 0 picks a free one).

    ``live`` and ``ready`` return what is wrong or missing, nothing where all is well: then the
    answer is 200, else 503 with the list. Raises ``ConfigError`` where the port is taken.
    """
    import uvicorn  # noqa: PLC0415 - slow to import, and only needed once a service serves

    class Quiet(uvicorn.Server):
        """A server that leaves the signals to the service, and sleeps while nobody asks it anything."""

        async def main_loop(self) -> None:
            """Return once it is to stop. The library's own wakes ten times a second to look, and for the date."""
            await self.on_tick(0)
            await stopping.wait()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    stopping = asyncio.Event()
    listening = _listen(host, port)
    config = uvicorn.Config(
        _app(live, ready, metrics),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        limit_concurrency=CONCURRENCY_MAX,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
    )
    server = Quiet(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]), name="ops")
    ops = Ops(host, int(listening.getsockname()[1]), server, serving, stopping)
    async with asyncio.timeout(START_WITHIN_S):
        while not server.started:
            if serving.done():
                await serving
                raise ConfigError(
                    f"the ops port {port} stopped at once; set MESH_OPS_PORT to another one"
                )
            await asyncio.sleep(0.005)
    return ops


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as fault:
        listening.close()
        raise ConfigError(
            f"{host}:{port}: {fault.strerror}; set MESH_OPS_PORT to a free port, or 0"
        ) from fault
    return listening


def _app(live: Missing, ready: Missing, metrics: Callable[[], bytes]) -> Any:
    async def app(scope: MutableMapping[str, Any], _receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        status, kind, body = _answer(scope["method"], scope["path"], live, ready, metrics)
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return app


def _answer(
    method: str, path: str, live: Missing, ready: Missing, metrics: Callable[[], bytes]
) -> tuple[int, bytes, bytes]:
    if method not in {"GET", "HEAD"}:
        return 405, b"text/plain", b"GET only\n"
    if path == "/metrics":
        return 200, b"text/plain; version=0.0.4; charset=utf-8", metrics()
    if path in {"/livez", "/readyz"}:
        missing = list(live() if path == "/livez" else ready())
        body = json.dumps({"status": "missing" if missing else "ok", "missing": missing}).encode()
        return (503 if missing else 200), b"application/json", body + b"\n"
    return 404, b"text/plain", b"/livez, /readyz or /metrics\n"
