"""A simulated engine, ours and labelled so: it has the costs of a real one, and no model.

It speaks OpenAI's chat protocol, streamed or plain. What takes time is stated in ``Costs``: each prompt
token that no kept block covers, one prefill at a time as on one device, and each answered token; a bounded
batch answers at once, the others queue. Blocks of the prompt are kept by the hash of all that leads up to
them, the least recently used are evicted, as engines with a prefix cache do. A token is a word. Its counts
(``/metrics``, under vLLM's names) are kept where the work is done.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from mesh_tools.bench.costs import Costs, PrefixCache, Timeline

MODEL = "simulated-engine"
BACKLOG = 4_096


class Counts(msgspec.Struct):
    """What one simulated engine did since it started."""

    requests: int = 0
    finished: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    made_tokens: int = 0
    running: int = 0
    waiting: int = 0


class Simulator:
    """One simulated engine on a port of its own. ``kill`` and ``freeze`` do what they say."""

    def __init__(self, costs: Costs | None = None) -> None:
        self.costs = costs or Costs()
        self.cache = PrefixCache(self.costs.block_tokens, self.costs.cache_blocks)
        self.timeline = Timeline(self.costs)
        self.counts = Counts()
        self.address = ""
        self._slots = asyncio.Semaphore(self.costs.slots)
        self._device = asyncio.Lock()
        self._awake = asyncio.Event()
        self._awake.set()
        self._lines: dict[asyncio.StreamWriter, asyncio.Task[Any]] = {}
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a free port of the loopback."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=BACKLOG)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def forget(self) -> None:
        """Begin anew: nothing is kept, and no time has passed."""
        self.cache.forget()
        self.timeline = Timeline(self.costs)

    def kill(self) -> None:
        """Be gone at once: connections are reset, and new ones refused."""
        if self._server is not None:
            self._server.close()
        for line in list(self._lines):
            line.transport.abort()

    def freeze(self) -> None:
        """Stand still: connections stay open, new ones are taken, and nothing is said."""
        self._awake.clear()

    def thaw(self) -> None:
        """Go on."""
        self._awake.set()

    async def stop(self) -> None:
        """Be gone, and have everything ended."""
        self.kill()
        self.thaw()
        for task in list(self._lines.values()):
            task.cancel()
        await asyncio.gather(*self._lines.values(), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines[writer] = task
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while await self._answer(reader, writer):
                    await writer.drain()
        finally:
            del self._lines[writer]
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether another may follow."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        await self._awake.wait()
        headers = {
            name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)
        }
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        follows = headers.get("connection") != "close"
        if first.startswith("GET /metrics"):
            _whole(writer, "text/plain", self.metrics().encode())
            return follows
        asked = json.loads(raw)
        self.counts.requests += 1
        self.counts.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.counts.waiting -= 1
        self.counts.running += 1
        try:
            await self._work(asked, writer)
        finally:
            self.counts.running -= 1
            self._slots.release()
        return follows

    async def _work(self, asked: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        tokens = tokens_of(asked)
        async with self._device:
            held = self.cache.take(tokens)
            self.counts.prompt_tokens += len(tokens)
            self.counts.cached_tokens += held
            await asyncio.sleep((len(tokens) - held) * self.costs.prefill_us / 1e6)
            await self._awake.wait()
        wanted = int(asked.get("max_tokens") or 1)
        came_s = asked.get("simulated_at_s")
        simulated = {}
        if came_s is not None:
            first_s = self.timeline.first_s(float(came_s), len(tokens) - held, wanted)
            simulated = {"simulated_first_s": first_s}
        usage = {
            "prompt_tokens": len(tokens),
            "completion_tokens": wanted,
            "total_tokens": len(tokens) + wanted,
            "prompt_tokens_details": {"cached_tokens": held},
        }
        if not asked.get("stream"):
            await self._decode(wanted)
            message = {"role": "assistant", "content": "word " * wanted}
            choice = {"index": 0, "message": message, "finish_reason": "length"}
            said = {"model": asked["model"], "choices": [choice], "usage": usage}
            _whole(writer, "application/json", json.dumps(said).encode())
        else:
            await self._stream(asked, writer, usage, simulated)
        self.counts.finished += 1

    async def _decode(self, tokens: int) -> None:
        await asyncio.sleep(tokens * self.costs.decode_us / 1e6)
        await self._awake.wait()
        self.counts.made_tokens += tokens

    async def _stream(
        self,
        asked: dict[str, Any],
        writer: asyncio.StreamWriter,
        usage: dict[str, Any],
        simulated: dict[str, float],
    ) -> None:
        wanted = usage["completion_tokens"]
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        each = bool((asked.get("stream_options") or {}).get("continuous_usage_stats"))
        for made in range(1, wanted + 1):
            await self._decode(1)
            finish = "length" if made == wanted else None
            choice = {"index": 0, "delta": {"content": "word "}, "finish_reason": finish}
            said: dict[str, Any] = {"model": asked["model"], "choices": [choice]}
            if made == 1:
                said |= simulated
            if each:
                said["usage"] = {**usage, "completion_tokens": made}
            _event(writer, json.dumps(said))
            await writer.drain()
        if (asked.get("stream_options") or {}).get("include_usage"):
            _event(writer, json.dumps({"model": asked["model"], "choices": [], "usage": usage}))
        _event(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def metrics(self) -> str:
        """Return its counts as vLLM's ``/metrics`` has them."""
        now, label = self.counts, f'{{model_name="{MODEL}"}}'
        figures = {
            "num_requests_running": now.running,
            "num_requests_waiting": now.waiting,
            "kv_cache_usage_perc": len(self.cache) / self.costs.cache_blocks,
            "prefix_cache_queries_total": now.prompt_tokens,
            "prefix_cache_hits_total": now.cached_tokens,
            "prompt_tokens_total": now.prompt_tokens,
            "generation_tokens_total": now.made_tokens,
            "request_success_total": now.finished,
        }
        return "".join(f"vllm:{name}{label} {value}\n" for name, value in figures.items())


def tokens_of(asked: dict[str, Any]) -> list[str]:
    """Return a prompt's tokens, in order: each message's role and words."""
    tokens = []
    for message in asked["messages"]:
        tokens += [f"<{message['role']}>", *str(message["content"]).split()]
    return tokens


def _event(writer: asyncio.StreamWriter, text: str) -> None:
    data = f"data: {text}\n\n".encode()
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


def _whole(writer: asyncio.StreamWriter, kind: str, body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


@asynccontextmanager
async def simulators(count: int, costs: Costs | None = None) -> AsyncIterator[list[Simulator]]:
    """Give so many simulated engines; all are stopped at the end."""
    made = [Simulator(costs) for _ in range(count)]
    for one in made:
        await one.start()
    try:
        yield made
    finally:
        for one in made:
            await one.stop()
