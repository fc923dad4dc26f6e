"""One caller of the door: streams a chat, and notes when its first word came and how it ended."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from mesh_tools.bench.arrivals import Arrival

PATH = "/v1/chat/completions"
LINE_BYTES_MAX = 1024**2


class Heard(msgspec.Struct):
    """What came of one request.

    ``first_s`` is the time to its first word, ``simulated_s`` the same by the engine's stated costs alone.
    """

    status: int = 0
    request_id: str = ""
    words: int = 0
    first_s: float | None = None
    simulated_s: float | None = None
    error: str | None = None
    ended: bool = False

    @property
    def whole(self) -> bool:
        """Whether it was answered to its end."""
        return self.status == 200 and self.ended and self.error is None


async def stream(port: int, key: str, model: str, arrival: Arrival, within_s: float) -> Heard:
    """Ask for one streamed answer over a connection of its own."""
    body = msgspec.json.encode(
        {
            "model": model,
            "messages": arrival.messages,
            "max_tokens": arrival.answer_tokens,
            "simulated_at_s": arrival.at_s,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: door\r\nauthorization: Bearer {key}\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    heard = Heard()
    loop = asyncio.get_running_loop()
    began = loop.time()
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LINE_BYTES_MAX)
            writer.write(head.encode() + body)
            await _head(reader, heard)
            async for line in reader:
                if line.startswith(b"data: "):
                    _event(heard, line[6:].strip(), loop.time() - began)
                    if heard.ended:
                        break
                elif heard.status != 200 and line.startswith(b"{"):
                    heard.error = _code(json.loads(line))
    except (OSError, asyncio.IncompleteReadError, TimeoutError) as fault:
        heard.error = heard.error or type(fault).__name__
    finally:
        if writer is not None:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
    return heard


async def _head(reader: asyncio.StreamReader, heard: Heard) -> None:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    heard.status = int(first.split()[1])
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() == "x-request-id":
            heard.request_id = value.strip()


def _event(heard: Heard, data: bytes, after_s: float) -> None:
    if data == b"[DONE]":
        heard.ended = True
        return
    said = json.loads(data)
    if "error" in said:
        heard.error = _code(said)
    elif said["choices"] and said["choices"][0]["delta"].get("content"):
        heard.words += 1
        if heard.first_s is None:
            heard.first_s = after_s
            heard.simulated_s = said.get("simulated_first_s")


def _code(said: dict[str, Any]) -> str:
    return str((said.get("error") or {}).get("code") or "error")


async def replay(
    port: int, key: str, model: str, arrivals: Sequence[Arrival], within_s: float = 60.0
) -> list[Heard]:
    """Ask each at its time, whether or not earlier ones have ended; return what was heard, in order."""
    began = asyncio.get_running_loop().time()

    async def one(arrival: Arrival) -> Heard:
        await asyncio.sleep(began + arrival.at_s - asyncio.get_running_loop().time())
        return await stream(port, key, model, arrival, within_s)

    return await asyncio.gather(*(one(arrival) for arrival in arrivals))


async def models(port: int, key: str) -> set[str]:
    """Return the models that the door serves to a key; none while it does not answer."""
    ask = f"GET /v1/models HTTP/1.1\r\nhost: door\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return set()
    try:
        writer.write(ask.encode())
        said = await reader.read()
    except OSError:
        return set()
    finally:
        writer.close()
    head, _, body = said.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        return set()
    return {str(model["id"]) for model in json.loads(body)["data"]}
