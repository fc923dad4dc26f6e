"""Asks processes on their private ports whether they are ready."""

import asyncio
import contextlib

POLL_S = 0.05
ANSWER_WITHIN_S = 2.0
SHOWN_AT_MOST = 300


async def look(port: int) -> tuple[int, str]:
    """Return the status and body of ``/readyz``; status 0 where nobody answers."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError):
        return 0, "does not answer"
    words = head.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0, body.decode(errors="replace")


async def ready(port: int) -> None:
    """Return once the process at ``port`` says it is ready."""
    while True:
        if (await look(port))[0] == 200:
            return
        await asyncio.sleep(POLL_S)


async def missing(ports: dict[str, int]) -> str:
    """Return who is not ready, with what it says is missing."""
    said = await asyncio.gather(*(look(port) for port in ports.values()))
    return "; ".join(
        f"{name} ({body.strip()[:SHOWN_AT_MOST]})"
        for name, (status, body) in zip(ports, said, strict=True)
        if status != 200
    )
