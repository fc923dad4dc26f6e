"""Kept connections to each replica, the last used first; a request goes out in one write."""

import asyncio

from mesh_contracts.placement import Replica

from inference_gateway.settings import CONNECT_WAIT_S, ENGINE_KEEPALIVE_S
from inference_gateway.upstream.exchange import Broken, Exchange
from inference_gateway.upstream.lines import Line
from inference_gateway.upstream.outside import Outside

IDLE_MAX = 1_024
"""Idle connections kept to one replica."""

SWEEP_EVERY_S = 1.0


class Pool:
    """The way to one replica. ``replica`` is what it was made for."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self._loop = asyncio.get_running_loop()
        self._idle: list[Line] = []
        self._closed = False
        address, _, prefix = replica.address.rstrip("/").partition("/")
        # An external address may hold a path of its own, and may name the version in it.
        self._prefix = f"/{prefix}".removesuffix("/v1") if prefix else ""
        host, _, port = address.rpartition(":")
        self._host, self._port = (host.strip("[]"), port) if port.isdigit() else (address, "80")
        self._heads: dict[str, bytes] = {}
        self._named = address

    def kept(self, path: str, body: bytes, traceparent: str | None, *, whole: bool) -> Line | None:
        """Send a request on a kept line; return it, or nothing where there is none. Raises ``Broken``."""
        oldest = self._loop.time() - ENGINE_KEEPALIVE_S
        while self._idle:
            line = self._idle.pop()
            if line.open and line.idle_since > oldest:
                line.send(self._request(path, body, traceparent), whole=whole)
                return line
            line.abort()
        return None

    async def send(self, path: str, body: bytes, traceparent: str | None, *, whole: bool) -> Line:
        """Send a request on a new line; return it. Raises ``Broken``."""
        request = self._request(path, body, traceparent)
        line = await self._connect()
        line.send(request, whole=whole)
        return line

    def _request(self, path: str, body: bytes, traceparent: str | None) -> bytes:
        head = self._heads.get(path) or self._head(path)
        more = b"" if traceparent is None else b"traceparent: %b\r\n" % traceparent.encode()
        return b"%b%bcontent-length: %d\r\n\r\n%b" % (head, more, len(body), body)

    def sweep(self, now: float) -> bool:
        """Close what was idle for too long; tell whether anything is left."""
        while self._idle and (
            not self._idle[0].open or now - self._idle[0].idle_since > ENGINE_KEEPALIVE_S
        ):
            self._idle.pop(0).abort()
        return bool(self._idle)

    def close(self) -> None:
        """Close what is idle, and what will be."""
        self._closed = True
        while self._idle:
            self._idle.pop().abort()

    async def _connect(self) -> Line:
        try:
            async with asyncio.timeout(CONNECT_WAIT_S):
                _, line = await self._loop.create_connection(
                    lambda: Line(self._loop, self._free), self._host, int(self._port)
                )
        except (OSError, TimeoutError, ValueError):
            raise Broken("unreachable") from None
        return line

    def _free(self, line: Line) -> None:
        if not line.open or self._closed or len(self._idle) >= IDLE_MAX:
            line.abort()
            return
        line.idle_since = self._loop.time()
        self._idle.append(line)

    def _head(self, path: str) -> bytes:
        # An address may come from a tenant: nothing of it may end a line of the head.
        lines = [
            f"POST {self._prefix}{path} HTTP/1.1",
            f"host: {self._named}",
            "content-type: application/json",
            "accept-encoding: identity",
        ]
        if self.replica.api_key:
            lines.append(f"authorization: Bearer {self.replica.api_key}")
        if not all(line.isprintable() for line in lines):
            raise Broken("unreachable")
        head = self._heads[path] = ("\r\n".join(lines) + "\r\n").encode()
        return head


class Upstreams:
    """The ways to all replicas: our own pool where they speak plain HTTP, aiohttp where there is TLS."""

    def __init__(self) -> None:
        self._pools: dict[str, Pool] = {}
        self._outside = Outside()

    def kept(
        self,
        replica: Replica,
        path: str,
        body: bytes,
        traceparent: str | None,
        *,
        whole: bool = False,
    ) -> Exchange | None:
        """Send a request at once, over a kept connection; nothing where there is none. Raises ``Broken``.

        ``whole`` says that nothing of the answer is of use before all of it is here.
        """
        if replica.scheme == "https":
            return None
        return self._pool(replica).kept(path, body, _trace(replica, traceparent), whole=whole)

    async def send(
        self,
        replica: Replica,
        path: str,
        body: bytes,
        traceparent: str | None,
        *,
        whole: bool = False,
        fresh: bool = True,
    ) -> Exchange:
        """Send a request over a new connection (one behind TLS may be kept, unless ``fresh``). Raises ``Broken``."""
        trace = _trace(replica, traceparent)
        if replica.scheme == "https":
            return await self._outside.send(replica, path, body, trace, fresh=fresh)
        return await self._pool(replica).send(path, body, trace, whole=whole)

    def _pool(self, replica: Replica) -> Pool:
        pool = self._pools.get(replica.workload_id)
        if pool is None or pool.replica is not replica:
            pool = self._renewed(replica, pool)
        return pool

    def _renewed(self, replica: Replica, pool: Pool | None) -> Pool:
        if pool is not None and pool.replica == replica:
            pool.replica = replica
            return pool
        if pool is not None:
            pool.close()
        made = self._pools[replica.workload_id] = Pool(replica)
        return made

    async def sweep(self) -> None:
        """Close, for ever, what is idle; forget replicas that nothing goes to."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            now = loop.time()
            for workload_id, pool in list(self._pools.items()):
                if not pool.sweep(now):
                    pool.close()
                    del self._pools[workload_id]

    async def close(self) -> None:
        """Let go of every connection."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        await self._outside.close()


def _trace(replica: Replica, traceparent: str | None) -> str | None:
    """Return what a replica is told of the trace: strangers nothing."""
    return None if replica.trust == "external" else traceparent
