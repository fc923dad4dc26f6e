"""The way to engines behind TLS: a well-kept library, half as fast as our own lines and never in their way."""

import ssl
from contextlib import suppress

import aiohttp
from mesh_contracts.placement import Replica

from inference_gateway.settings import CONNECT_WAIT_S, ENGINE_KEEPALIVE_S
from inference_gateway.upstream.exchange import Broken, Exchange

CHUNK_BYTES = 64 * 1024


class Outside:
    """One pool of aiohttp's to all engines behind TLS."""

    def __init__(self) -> None:
        self._kept: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None

    async def send(
        self, replica: Replica, path: str, body: bytes, traceparent: str | None, *, fresh: bool
    ) -> Exchange:
        """Send a request; return once its answer's head is here. Raises ``Broken``."""
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if replica.api_key:
            headers["authorization"] = f"Bearer {replica.api_key}"
        if traceparent is not None:
            headers["traceparent"] = traceparent
        session = self._session(fresh=fresh)
        try:
            response = await session.post(
                _url(replica, path), data=body, headers=headers, allow_redirects=False
            )
        except (aiohttp.ClientError, OSError, ValueError) as fault:
            raise Broken(_kind(fault)) from fault
        return OutsideExchange(response)

    async def close(self) -> None:
        """Let go of every connection."""
        for session in (self._kept, self._fresh):
            if session is not None:
                await session.close()

    def _session(self, *, fresh: bool) -> aiohttp.ClientSession:
        if fresh:
            if self._fresh is None:
                self._fresh = _made(aiohttp.TCPConnector(limit=0, force_close=True))
            return self._fresh
        if self._kept is None:
            self._kept = _made(aiohttp.TCPConnector(limit=0, keepalive_timeout=ENGINE_KEEPALIVE_S))
        return self._kept


class OutsideExchange:
    """One answer over aiohttp."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status

    async def begun(self) -> None:
        """Return at once: it has begun."""

    async def read(self) -> bytes:
        """Return what came since the last read, nothing at the end. Raises ``Broken``."""
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as fault:
            raise Broken(_kind(fault)) from fault

    async def whole(self, bytes_max: int) -> bytes:
        """Return all that is left of the answer. Raises ``Broken``."""
        parts, size = [], 0
        while part := await self.read():
            parts.append(part)
            size += len(part)
            if size > bytes_max:
                raise Broken("too_large")
        return b"".join(parts)

    def header(self, name: bytes) -> bytes | None:
        """Return a header of the answer, or nothing."""
        text = self._response.headers.get(name.decode())
        return None if text is None else text.encode()

    def release(self) -> None:
        """Close, unless the answer was read to its end and has given its connection back already."""
        with suppress(aiohttp.ClientError):
            self._response.close()


def _made(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_WAIT_S),
        read_bufsize=CHUNK_BYTES,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=True,
        skip_auto_headers=("User-Agent", "Accept-Encoding"),
    )


def _kind(fault: Exception) -> str:
    if isinstance(fault, aiohttp.ClientConnectorError | ssl.SSLError):
        return "unreachable"
    if isinstance(fault, aiohttp.ServerDisconnectedError):
        return "stale"
    if isinstance(fault, aiohttp.ClientPayloadError):
        return "truncated"
    if isinstance(fault, aiohttp.ClientResponseError | ValueError):
        return "garbage"
    return "reset"


def _url(replica: Replica, path: str) -> str:
    """Return where ``path`` is at a replica; an external address may hold a path of its own."""
    address = replica.address.rstrip("/")
    if "/" in address and address.endswith("/v1"):
        address = address.removesuffix("/v1")
    return f"{replica.scheme}://{address}{path}"
