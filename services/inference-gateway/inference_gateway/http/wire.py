"""ASGI by hand for the hot routes: headers, bodies, answers."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from inference_gateway.domain.faults import Fault
from inference_gateway.settings import BODY_BYTES_MAX, BODY_WAIT_S

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
SSE = (b"content-type", b"text/event-stream; charset=utf-8")
NO_CACHE = (b"cache-control", b"no-cache")
HOOKS = "mesh.hooks"
"""Where the server puts, in each scope of the hot routes, what ASGI has no word for."""

LABEL_CHARS_MAX = 128
DISCARDED_BYTES_MAX = 4 * BODY_BYTES_MAX
"""How much of a body that is too large is thrown away before the connection is closed on it."""

RETRY_AFTER_MAX_S = 120
"""The longest wait a client is asked for: OpenAI's gives up where it is longer."""


class Hooks(Protocol):
    """What the server can do for the hot routes beside ASGI's own."""

    def leaving(self, then: Callable[[], None]) -> None:
        """Have ``then`` called when the client leaves; at once where it has left."""
        ...

    def arrived(self) -> bytes | None:
        """Return the whole body where all of it is here already, so that nobody waits for it."""
        ...

    def more(self, body: bytes) -> bool:
        """Send a part of an answer that has begun; false, and nothing sent, where that is ``send``'s to do."""
        ...

    async def at_once(self, status: int, headers: Headers, body: bytes) -> None:
        """Send an answer that is known whole."""
        ...


class ClientLeft(Exception):
    """The client closed the connection."""


class BodyLate(Exception):
    """The body did not arrive within ``BODY_WAIT_S``."""


def header(given: dict[bytes, bytes], name: bytes) -> str | None:
    """Return a request header (its name in lower case), or nothing."""
    value = given.get(name)
    return None if value is None else value.decode("latin-1")


def own_headers(given: dict[bytes, bytes], request_id: str) -> Headers:
    """Return the headers of every answer: our request id, and the client's own label given back."""
    headers: Headers = [(b"x-request-id", request_id.encode())]
    label = header(given, b"x-client-request-id") or header(given, b"x-request-id")
    if label and len(label) <= LABEL_CHARS_MAX and label.isascii() and label.isprintable():
        headers.append((b"x-client-request-id", label.encode()))
    return headers


async def read_body(scope: Scope, given: dict[bytes, bytes], receive: Receive) -> bytes | Fault:
    """Return the whole body, or why it is not taken. Raises ``ClientLeft``."""
    hooks: Hooks | None = scope.get(HOOKS)
    here = None if hooks is None else hooks.arrived()
    if here is not None:
        return here if len(here) <= BODY_BYTES_MAX else _too_large()
    declared = given.get(b"content-length", b"")
    too_large = declared.isdigit() and int(declared) > BODY_BYTES_MAX
    if too_large and b"expect" in given:
        # It asks before it sends: nothing needs to be heard out.
        return _too_large()
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_WAIT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                part: bytes = message.get("body", b"")
                size += len(part)
                too_large = too_large or size > BODY_BYTES_MAX
                ended = not message.get("more_body")
                # A client that is still sending would not read our refusal: hear it out, for a while.
                if too_large and (ended or size > DISCARDED_BYTES_MAX):
                    return _too_large()
                if too_large:
                    parts.clear()
                    continue
                if ended and not parts:
                    return part
                parts.append(part)
                if ended:
                    return b"".join(parts)
    except TimeoutError:
        return body_late()


def in_time(receive: Receive) -> Receive:
    """Return ``receive`` for whoever reads a body without a bound: past ``BODY_WAIT_S`` it raises ``BodyLate``."""
    until = asyncio.get_running_loop().time() + BODY_WAIT_S
    ended = False

    async def received() -> Message:
        nonlocal ended
        if ended:
            return await receive()
        try:
            async with asyncio.timeout_at(until):
                message = await receive()
        except TimeoutError:
            raise BodyLate from None
        ended = not message.get("more_body")
        return message

    return received


async def send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send an answer that is known whole."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def send_fault(send: Send, fault: Fault, headers: Headers) -> None:
    """Send a refusal in OpenAI's envelope."""
    await send_whole(send, fault.status, [*headers, *fault_headers(fault)], fault.body())


def fault_headers(fault: Fault) -> Headers:
    """Return what a refusal's head says, whatever the shape of its body."""
    more: Headers = [JSON, *fault.headers, *_when(fault)]
    if fault.status == 401:
        more.append((b"www-authenticate", b"Bearer"))
    if fault.status in {408, 413}:
        more.append((b"connection", b"close"))
    return more


def _when(fault: Fault) -> Headers:
    """Return when to come back, and whether at all."""
    said: Headers = []
    seconds = fault.retry_after_s
    if fault.retry_after_ms is not None:
        waits_ms = min(fault.retry_after_ms, RETRY_AFTER_MAX_S * 1000)
        said.append((b"retry-after-ms", b"%d" % waits_ms))
        seconds = -(-waits_ms // 1000)
    if seconds is not None:
        said.append((b"retry-after", b"%d" % min(seconds, RETRY_AFTER_MAX_S)))
    if fault.should_retry is not None:
        said.append((b"x-should-retry", b"true" if fault.should_retry else b"false"))
    return said


def body_late() -> Fault:
    """Return the refusal of a body that did not arrive in time."""
    return Fault(
        status=408,
        code="body_timeout",
        message=f"The body did not arrive within {BODY_WAIT_S:.0f} s; send the request again.",
    )


def _too_large() -> Fault:
    return Fault(
        status=413,
        code="body_too_large",
        message=f"The body is larger than {BODY_BYTES_MAX // 1024**2} MiB; send less at once.",
    )
