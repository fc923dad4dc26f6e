"""What one client is sent: whole, in parts, or the bad news."""

import asyncio
from collections.abc import Callable

from inference_gateway.domain.faults import Fault
from inference_gateway.domain.stream import DONE, error_event
from inference_gateway.http.wire import JSON, NO_CACHE, SSE, Headers, Send, send_fault, send_whole


class Reply:
    """One answer on its way. ``started`` once its status has left, ``done`` once all of it has.

    ``about_to`` is called before each wait for the client.
    """

    def __init__(self, send: Send, headers: Headers, about_to: Callable[[], None]) -> None:
        self._send = send
        self._headers = headers
        self._about_to = about_to
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self.last_word = DONE
        self.started = False
        self.done = False

    async def whole(self, body: bytes) -> None:
        """Send a plain answer."""
        self.started = True
        self._about_to()
        await send_whole(self._send, 200, [*self._headers, JSON, self._processing()], body)
        self.done = True

    async def refuse(self, fault: Fault) -> None:
        """Send a refusal, before anything else was sent."""
        self.started = True
        self._about_to()
        await send_fault(self._send, fault, self._headers)
        self.done = True

    async def part(self, out: bytes) -> None:
        """Send some of a stream."""
        self._about_to()
        await self._start()
        await self._send({"type": "http.response.body", "body": out, "more_body": True})

    async def end(self, out: bytes) -> None:
        """Send the last of a stream."""
        self._about_to()
        await self._start()
        await self._send({"type": "http.response.body", "body": out})
        self.done = True

    async def break_off(self, why: str) -> None:
        """End a stream with the reason why it does not go on."""
        said = f"The answer broke off ({why}); what came so far is recorded. Send the request again."
        await self.end(error_event(why, said))

    async def _start(self) -> None:
        if not self.started:
            self.started = True
            headers = [*self._headers, SSE, NO_CACHE, self._processing()]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    def _processing(self) -> tuple[bytes, bytes]:
        took_ms = int((self._loop.time() - self._began) * 1e3)
        return b"openai-processing-ms", str(took_ms).encode()
