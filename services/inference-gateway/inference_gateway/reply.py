"""What one client is sent: whole, in parts, or the bad news; in the shape it asked in."""

import asyncio
from collections.abc import Callable

from inference_gateway.domain.dialects import Dialect
from inference_gateway.domain.faults import UNREADABLE, Fault
from inference_gateway.domain.sse import EventTooLong, data_of
from inference_gateway.domain.stream import DONE, error_event
from inference_gateway.http.wire import (
    JSON,
    NO_CACHE,
    SSE,
    Headers,
    Hooks,
    Send,
    fault_headers,
    send_fault,
    send_whole,
)

WAITING = b": waiting for a replica\n\n"


class Reply:
    """One answer on its way. ``started`` once its status has left, ``said`` once something of the engine has.

    ``done`` is true once all of it has left. ``about_to`` is called before each wait for the client.
    """

    def __init__(
        self,
        send: Send,
        headers: Headers,
        about_to: Callable[[], None],
        *,
        hooks: Hooks | None = None,
    ) -> None:
        self._send = send
        self._hooks = hooks
        self._headers = headers
        self._about_to = about_to
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self.started = False
        self.said = False
        self.done = False

    def add(self, headers: Headers) -> None:
        """Say these headers, too, once the answer begins."""
        self._headers += headers

    async def whole(self, body: bytes) -> None:
        """Send a plain answer."""
        self.started = self.said = True
        self._about_to()
        headers = [*self._headers, JSON, self._processing()]
        if self._hooks is not None:
            await self._hooks.at_once(200, headers, body)
        else:
            await send_whole(self._send, 200, headers, body)
        self.done = True

    async def refuse(self, fault: Fault) -> None:
        """Send a refusal, before anything of an engine was sent."""
        self._about_to()
        if self.started:
            # Signs of life have left already: the refusal follows as the stream's only event.
            await self._last(self._broken(fault.code, fault.message))
            return
        self.started = True
        await self._refuse(fault)
        self.done = True

    async def wait(self) -> None:
        """Send a sign of life in the place of an answer that is not there yet."""
        self._about_to()
        await self._start()
        await self._send({"type": "http.response.body", "body": WAITING, "more_body": True})

    def spoken(self, events: list[bytes]) -> bytes:
        """Return some events of a stream in the shape of this answer. Raises ``EventTooLong`` where they cannot be said so."""
        self.said = True
        return self._spoken(events)

    def flows(self, out: bytes) -> bool:
        """Send a part without a wait; false, and nothing sent, where ``part`` must."""
        return self.started and self._hooks is not None and (not out or self._hooks.more(out))

    async def part(self, out: bytes) -> None:
        """Send a part, once the client takes it."""
        self._about_to()
        await self._start()
        if out:
            await self._send({"type": "http.response.body", "body": out, "more_body": True})

    async def end(self, last: bytes = DONE) -> None:
        """Send the last of a stream; ``last`` is the engine's own word for it."""
        self._about_to()
        await self._last(self._ending(last))

    async def break_off(self, why: str) -> None:
        """End a stream with the reason why it does not go on."""
        said = f"The answer broke off ({why}); what came so far is recorded. Send the request again."
        self._about_to()
        await self._last(self._broken(why, said))

    async def _refuse(self, fault: Fault) -> None:
        await send_fault(self._send, fault, self._headers)

    def _spoken(self, events: list[bytes]) -> bytes:
        return events[0] if len(events) == 1 else b"".join(events)

    def _ending(self, last: bytes) -> bytes:
        return last

    def _broken(self, code: str, message: str) -> bytes:
        return error_event(code, message)

    async def _last(self, out: bytes) -> None:
        await self._start()
        await self._send({"type": "http.response.body", "body": out})
        self.done = True

    async def _start(self) -> None:
        if not self.started:
            self.started = True
            headers = [*self._headers, SSE, NO_CACHE, self._processing()]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    def _processing(self) -> tuple[bytes, bytes]:
        return b"openai-processing-ms", b"%d" % ((self._loop.time() - self._began) * 1e3)


class Spoken(Reply):
    """An answer in another shape than the engine's: read as chat completions, said by a dialect."""

    def __init__(
        self,
        send: Send,
        headers: Headers,
        about_to: Callable[[], None],
        *,
        hooks: Hooks | None = None,
        dialect: Dialect,
        asked: bytes,
        name: str,
        request_id: str,
        now_s: int,
    ) -> None:
        super().__init__(send, headers, about_to, hooks=hooks)
        self._dialect = dialect
        self._asked = asked
        self._name = name
        self._request_id = request_id
        self._now_s = now_s
        self._speaker = dialect.speaker(asked, name, request_id, now_s)

    async def whole(self, body: bytes) -> None:
        """Send a plain answer."""
        said = self._dialect.whole(self._asked, body, self._name, self._request_id, self._now_s)
        await super().whole(said)

    async def _refuse(self, fault: Fault) -> None:
        body = self._dialect.refusal(fault, self._request_id)
        await send_whole(self._send, fault.status, [*self._headers, *fault_headers(fault)], body)

    def _spoken(self, events: list[bytes]) -> bytes:
        chunks = [data for event in events if (data := data_of(event)) is not None]
        try:
            return self._speaker.begin() + self._speaker.part(chunks)
        except UNREADABLE:
            raise EventTooLong from None

    def _ending(self, last: bytes) -> bytes:  # noqa: ARG002 - every shape has its own
        return self._speaker.begin() + self._speaker.end()

    def _broken(self, code: str, message: str) -> bytes:
        return self._speaker.broken(code, message)
