"""The callers: closed loops of many clients, each asking again once it is answered.

``python -m mesh_tools.bench.gateway.load WISH`` takes a ``Wish`` as JSON and prints ``Seen`` as JSON.
A process of its own for each measurement, so that none inherits another's memory.
"""

import asyncio
import sys
import time
from array import array
from typing import cast

import msgspec
import uvloop

from mesh_tools.bench.gateway import rate, words
from mesh_tools.bench.gateway.asked import Seen, Wish, middle, tail
from mesh_tools.bench.gateway.wire import Message, NotHttp
from mesh_tools.bench.tree import Tree

DRAIN_S = 30.0
"""How long what is under way at the end may take to end."""
AGAIN_S = 0.05
"""After a lost connection."""
WARM_MAX_S = 10.0
WAVES = 4
"""Answers a client at least, in a window: one that is long enough for the fast may hold no wave of the slow."""
WINDOW_MAX_S = 20.0
SLOWEST_PER_S = 20.0
LOOK_S = 0.01
MARK = words.MARK.encode()


class Count:
    """What all callers together have seen; reset when the window begins."""

    def __init__(self) -> None:
        self.errors = 0
        self.error = ""
        self.expected = self.arrived = 0
        self.reset()

    def reset(self) -> None:
        """Begin the window."""
        self.answers = self.events = self.tokens = 0
        self.took = array("d")
        self.first = array("d")

    def failed(self, why: str) -> None:
        """Count an answer that is none; keep the first one's words."""
        self.errors += 1
        self.error = self.error or why


class Caller(asyncio.Protocol):
    """One client on one connection."""

    def __init__(self, request: bytes, count: Count, *, stream: bool) -> None:
        self.busy = False
        self.lost = asyncio.get_running_loop().create_future()
        self._request = request
        self._count = count
        self._stream = stream
        self._message = Message()
        self._transport: asyncio.Transport
        self._ending = False
        self._cut = b""
        self._tokens = 0
        self._first = 0.0
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection for the end of an answer that has no other."""
        if self.busy and self._message.until_closed:
            self._answered()
        elif self.busy:
            self.give_up(f"the connection was lost: {exc or 'closed'}")
        self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Count what came; ask again at its end."""
        try:
            payload = self._message.feed(data)
        except (NotHttp, ValueError) as fault:
            self.give_up(str(fault))
            self._transport.abort()
            return
        if self._stream and payload:
            self._streamed(payload)
        elif payload and self._message.status != 200:
            self._cut = (self._cut + payload)[:300]
        if self._message.whole:
            self._answered()

    def end(self) -> None:
        """Ask no more; leave once answered."""
        self._ending = True
        if not self.busy:
            self._transport.close()

    def abort(self) -> None:
        """Leave now; what has not ended by now has failed."""
        if self.busy:
            self.give_up("it had not ended long after the window")
        self._transport.abort()

    def give_up(self, why: str) -> None:
        """Count an answer that will not end."""
        self.busy = False
        self._count.failed(why)
        self._account()

    def _account(self) -> None:
        if self._stream:
            self._count.expected += words.TOKENS
            self._count.arrived += self._tokens

    def _ask(self) -> None:
        self.busy = True
        self._message.again()
        self._cut = b""
        self._tokens = 0
        self._first = 0.0
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def _streamed(self, payload: bytes) -> None:
        # What may be the beginning of the next "data:" is looked at again with what follows it.
        seen = self._cut + payload
        events = seen.count(b"data:")
        tokens = payload.count(MARK)
        if events and not self._first:
            self._first = time.perf_counter() - self._began
        self._cut = seen[-4:]
        self._tokens += tokens
        self._count.events += events
        self._count.tokens += tokens

    def _answered(self) -> None:
        count, self.busy = self._count, False
        if self._message.status != 200:
            count.failed(f"{self._message.status} {self._cut.decode(errors='replace')}")
        else:
            count.answers += 1
            count.took.append(time.perf_counter() - self._began)
            if self._first:
                count.first.append(self._first)
        self._account()
        if self._ending or b"\r\nconnection: close" in self._message.head:
            self._transport.close()
        else:
            self._ask()


class Load:
    """So many callers, kept so many until the end."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.count = Count()
        self._callers: set[Caller] = set()
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> Seen:
        """Warm up, count for the window, let what is under way end."""
        wish, count, tree = self.wish, self.count, Tree(self.wish.pid) if self.wish.pid else None
        self._tasks = [asyncio.create_task(self._keep()) for _ in range(wish.clients)]
        if wish.warm_s:
            await asyncio.sleep(wish.warm_s)
            await self._until(wish.clients, WARM_MAX_S, or_events=True)
        cpu_s = tree.cpu_s() if tree else 0.0
        began = time.perf_counter()
        count.reset()
        if wish.answers:
            await self._until(wish.answers, WINDOW_MAX_S + wish.answers / SLOWEST_PER_S)
        else:
            await asyncio.sleep(wish.window_s)
            await self._until(0 if wish.stream else wish.clients * WAVES, WINDOW_MAX_S)
        # One moment for all figures: what is looked up next takes its time.
        answers, events, tokens = count.answers, count.events, count.tokens
        took, first = sorted(count.took), sorted(count.first)
        window_s = time.perf_counter() - began
        cpu_s = tree.cpu_s() - cpu_s if tree else 0.0
        cut = await self._drain()
        return Seen(
            window_s=window_s,
            answers=answers,
            events=events,
            tokens=tokens,
            cpu_s=cpu_s,
            p50_us=middle(took) * 1e6,
            p99_us=tail(took) * 1e6,
            first_us=middle(first) * 1e6,
            tokens_expected=count.expected,
            tokens_seen=count.arrived,
            cut=cut,
            errors=count.errors,
            error=count.error,
        )

    async def _until(self, enough: int, at_most_s: float, *, or_events: bool = False) -> None:
        """Wait for so many answers: a slow server gives them in waves, one of all its clients at a time."""
        last = time.monotonic() + at_most_s
        count = self.count
        while (  # noqa: ASYNC110 a benchmark may poll
            count.answers + count.errors < enough
            and not (or_events and count.events >= enough)
            and time.monotonic() < last
        ):
            await asyncio.sleep(LOOK_S)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        wish = self.wish
        while not self._ending:
            try:
                _, caller = await loop.create_connection(
                    lambda: Caller(wish.sent(), self.count, stream=wish.stream), wish.host, wish.port
                )
            except OSError as fault:
                self.count.failed(f"no connection: {fault.strerror}")
            else:
                self._callers.add(caller)
                if self._ending:
                    caller.end()
                await caller.lost
                self._callers.discard(caller)
            if not self._ending:
                await asyncio.sleep(AGAIN_S)

    async def _drain(self) -> int:
        """Return how many answers had not ended when patience had."""
        self._ending = True
        for caller in list(self._callers):
            caller.end()
        _, open_still = await asyncio.wait(self._tasks, timeout=DRAIN_S)
        cut = sum(caller.busy for caller in self._callers)
        for caller in list(self._callers):
            caller.abort()
        if open_still:
            await asyncio.wait(open_still, timeout=1)
        return cut


def main() -> None:
    """Do what the first argument wishes; print what was seen."""
    wish = msgspec.json.decode(sys.argv[1], type=Wish)
    seen = rate.run(wish) if wish.per_s else uvloop.run(Load(wish).run())
    print(msgspec.json.encode(seen).decode())


if __name__ == "__main__":
    main()
