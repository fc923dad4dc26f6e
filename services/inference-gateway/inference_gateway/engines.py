"""The way to engines: kept connections, requests in flight, and never anything of the bus."""

from types import TracebackType
from typing import Self

import aiohttp
from mesh_contracts.placement import Replica

from inference_gateway.settings import CONNECT_WAIT_S, ENGINE_KEEPALIVE_S

CHUNK_BYTES = 64 * 1024


class Engines:
    """One pool of connections to all engines; counts what each has in flight."""

    def __init__(self) -> None:
        self.in_flight: dict[str, int] = {}
        self._kept = _session(aiohttp.TCPConnector(limit=0, keepalive_timeout=ENGINE_KEEPALIVE_S))
        self._fresh = _session(aiohttp.TCPConnector(limit=0, force_close=True))

    async def close(self) -> None:
        """Let go of every connection."""
        await self._kept.close()
        await self._fresh.close()

    def session(self, *, fresh: bool) -> aiohttp.ClientSession:
        """Return the way to engines: over a kept connection, or over a ``fresh`` one."""
        return self._fresh if fresh else self._kept

    def ask(
        self, replica: Replica, path: str, body: bytes, traceparent: str | None, *, fresh: bool = False
    ) -> "Exchange":
        """Return a request to a replica, in flight within its ``async with``."""
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if replica.api_key:
            headers["authorization"] = f"Bearer {replica.api_key}"
        if traceparent is not None and replica.trust != "external":
            headers["traceparent"] = traceparent
        return Exchange(self, replica, _url(replica, path), body, headers, fresh=fresh)


class Exchange:
    """One request to one replica; leaving it closes the connection unless the answer was read whole."""

    def __init__(
        self,
        engines: Engines,
        replica: Replica,
        url: str,
        body: bytes,
        headers: dict[str, str],
        *,
        fresh: bool,
    ) -> None:
        self._engines = engines
        self._fresh = fresh
        self._replica = replica
        self._url = url
        self._body = body
        self._headers = headers
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> Self:
        busy = self._engines.in_flight
        busy[self._replica.workload_id] = busy.get(self._replica.workload_id, 0) + 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        busy = self._engines.in_flight
        left = busy[self._replica.workload_id] - 1
        if left:
            busy[self._replica.workload_id] = left
        else:
            del busy[self._replica.workload_id]
        if self._response is not None:
            # An answer that was read to its end has given its connection back already.
            self._response.close()

    async def answer(self) -> aiohttp.ClientResponse:
        """Send the request; return the answer's head. Raises ``aiohttp.ClientError``."""
        session = self._engines.session(fresh=self._fresh)
        self._response = await session.post(
            self._url, data=self._body, headers=self._headers, allow_redirects=False
        )
        return self._response


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_WAIT_S),
        read_bufsize=CHUNK_BYTES,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=True,
        skip_auto_headers=("User-Agent", "Accept-Encoding"),
    )


def _url(replica: Replica, path: str) -> str:
    """Return where ``path`` is at a replica; an external address may hold a path of its own."""
    address = replica.address.rstrip("/")
    if "/" in address and address.endswith("/v1"):
        address = address.removesuffix("/v1")
    return f"{replica.scheme}://{address}{path}"
