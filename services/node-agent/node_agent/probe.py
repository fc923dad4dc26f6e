"""Whether an engine answers: one small HTTP request, without a client library."""

import asyncio

PROBE_WITHIN_S = 1.5
STATUS_LINE_BYTES = 64


async def answers(address: str, path: str = "/health") -> bool:
    """Tell whether ``address`` (``host:port``) answers 200 in time."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(PROBE_WITHIN_S):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(
                    f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()
                )
                status = await reader.read(STATUS_LINE_BYTES)
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError):
        return False
    return status.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200"))
