"""What the tests of the gateway share: a bus with keys and routes, engines that misbehave on wish, the door."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from inference_gateway.app import Gateway, assemble
from inference_gateway.settings import GatewaySettings
from mesh_contracts import wire
from mesh_contracts.identity import AccessEntry
from mesh_contracts.inference import UsageMetered, UsageRow
from mesh_contracts.keytext import BASE62, access_key_of, digest_of, key_text
from mesh_contracts.placement import Replica, Route
from meshkit.bucket import BucketWriter
from meshkit.bus import Bus
from meshkit.declare import declare
from meshkit.testing import NOW, test_id

from tests.adapters.roads import connected, settings

ENGINE_KEY = "the key of an engine"
PROJECT = test_id("project", "rail")
ORGANIZATION = test_id("organization", "rail")

Answer = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def drawn_key(role: str = "project") -> str:
    return key_text(role, "".join(secrets.choice(BASE62) for _ in range(30)))


class Engine:
    """A double of an engine, over real HTTP: it answers as ``answer`` says, and notes who asked."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._runner: web.AppRunner | None = None
        self.address = ""
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.cancelled = 0
        self.made = 0

    async def start(self) -> None:
        app = web.Application(client_max_size=16 * 1024**2)
        app.router.add_post("/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=4_096)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.address = f"{host}:{port}"

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        try:
            return await self._answer(request, body)
        except (asyncio.CancelledError, ConnectionError):
            self.cancelled += 1
            raise

    def replica(self, name: str = "r1") -> Replica:
        return Replica(
            workload_id=test_id("workload", name),
            address=self.address,
            api_key=ENGINE_KEY,
            node_id=test_id("node", name),
        )


def chunk(text: str | None, made: int, **more: Any) -> dict[str, Any]:
    """Return one chunk as the built-in engine writes it."""
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": more.pop("finish_reason", None)}
    timings = {"timings": {"cache_n": 0, "prompt_n": 5, "predicted_n": made}}
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "model": "weights",
        "choices": [choice],
        **timings,
        **more,
    }


def usage_chunk(made: int) -> dict[str, Any]:
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "model": "weights",
        "choices": [],
        "usage": {"prompt_tokens": 5, "completion_tokens": made, "total_tokens": 5 + made},
    }


async def begun(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    return response


async def say(response: web.StreamResponse, said: dict[str, Any] | str) -> None:
    text = said if isinstance(said, str) else json.dumps(said)
    await response.write(f"data: {text}\n\n".encode())


def streaming(words: int = 3, *, pause_s: float = 0.0) -> Answer:
    """Return an engine's answer: ``words`` tokens, one a chunk, with usage at the end; plain where asked so."""

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if not body.get("stream"):
            usage = usage_chunk(words)["usage"]
            message = {"role": "assistant", "content": "word " * words}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            return web.json_response({"model": "weights", "choices": choices, "usage": usage})
        response = await begun(request)
        for made in range(1, words + 1):
            await say(response, chunk("word ", made))
            if pause_s:
                await asyncio.sleep(pause_s)
        await say(response, chunk(None, words, finish_reason="stop"))
        await say(response, usage_chunk(words))
        await say(response, "[DONE]")
        return response

    return answer


class Town:
    """A declared bus with the buckets that the door reads, a door, and a caller's key."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.key = drawn_key()
        self.bus: Bus
        self.door: Gateway
        self.http: aiohttp.ClientSession
        self.writers: dict[str, BucketWriter] = {}
        self.route_id = test_id("endpoint", "chat")
        self._heard: dict[str, UsageMetered] = {}
        self._read_up_to = 0
        self.copies = 0

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.door.port}"

    def settings(self, port: int = 0) -> GatewaySettings:
        common = settings(self.folder, self.url)
        return GatewaySettings(
            nats_url=common.nats_url,
            nats_credentials=common.nats_credentials,
            mesh_secret_file=common.mesh_secret_file,
            gateway_data_dir=self.folder / "gateway",
            gateway_port=port,
        )

    async def put_key(self, key: str, **fields: Any) -> None:
        entry = {"organization": ORGANIZATION, "project": PROJECT, "project_name": "rail", **fields}
        role = entry.pop("role", "project")
        value = AccessEntry(key_id=test_id("key", key[-8:]), role=role, **entry)
        await self.writers["access"].put(access_key_of(digest_of(key)), value)

    async def put_route(self, *replicas: Replica, name: str = "chat", **fields: Any) -> Route:
        told = {
            "endpoint_id": test_id("endpoint", name),
            "organization": ORGANIZATION,
            "project": PROJECT,
            "engine": "llama",
            "model_id": "weights",
            "created_at": NOW,
            **fields,
        }
        route = Route(name=name, replicas=list(replicas), **told)
        await self.writers["routes"].put(route.endpoint_id, route)
        return route

    async def serve(self, *replicas: Replica, name: str = "chat", **fields: Any) -> Route:
        """Put a route, and return once the door goes by it."""
        route = await self.put_route(*replicas, name=name, **fields)
        held = self.door.directory
        async with asyncio.timeout(5):
            while held.find(route.project, name) != route:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return route

    async def knows(self, key: str) -> None:
        """Return once the door knows a key."""
        async with asyncio.timeout(5):
            while True:
                async with self.get("/v1/models", key=key) as answer:
                    if answer.status != 401:
                        return
                await asyncio.sleep(0.005)

    def post(self, path: str, body: Any, key: str | None = None, **headers: str) -> Any:
        sent = {"authorization": f"Bearer {key or self.key}", **headers}
        return self.http.post(f"{self.base}{path}", json=body, headers=sent)

    def chat(self, *, stream: bool = False, **fields: Any) -> Any:
        body = {"model": "chat", "messages": [{"role": "user", "content": "hello"}], **fields}
        return self.post("/v1/chat/completions", {**body, "stream": stream})

    def get(self, path: str, key: str | None = None, **headers: str) -> Any:
        sent = {"authorization": f"Bearer {key or self.key}", **headers}
        return self.http.get(f"{self.base}{path}", headers=sent)

    async def told(self) -> list[UsageMetered]:
        """Return the batches that stand in the stream, each number once."""
        while (found := await self.bus.at("GATEWAY", self._read_up_to + 1)) is not None:
            self._read_up_to = found.sequence
            if not found.subject.startswith("gateway.usage."):
                continue
            self.copies += 1
            fact = wire.decode(found.data, UsageMetered)
            known = self._heard.setdefault(f"{fact.producer}.{fact.epoch}.{fact.sequence}", fact)
            assert known.rows == fact.rows, "the same numbers carry the same rows"
        return list(self._heard.values())

    async def rows(self, count: int, within_s: float = 10.0) -> list[UsageRow]:
        """Return all rows that were told once there are ``count``; never more than that."""
        async with asyncio.timeout(within_s):
            while True:
                rows = [row for fact in await self.told() for row in fact.rows]
                assert len(rows) <= count, rows
                if len(rows) == count:
                    assert len({row.request_id for row in rows}) == count, "a request has one row"
                    return rows
                await asyncio.sleep(0.02)

    async def open_door(self, port: int = 0, **options: Any) -> None:
        self.door = assemble(self.settings(port), **options)
        await self.door.start()


@asynccontextmanager
async def town(folder: Path, url: str, **options: Any) -> AsyncIterator[Town]:
    """Give a town with an open door; everything is closed at the end."""
    made = Town(folder, url)
    made.bus = await connected(folder, url, "admin")
    await declare(made.bus)
    writers = {}
    for bucket in ("access", "routes", "limits"):
        writers[bucket] = BucketWriter(made.bus, bucket, epoch=1)
        await writers[bucket].start()
    made.writers = writers
    await made.put_key(made.key)
    made.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    try:
        await made.open_door(**options)
        await made.knows(made.key)
        try:
            yield made
        finally:
            await made.door.stop()
    finally:
        await made.http.close()
        for writer in writers.values():
            await writer.close()
        await made.bus.close()


def sse(raw: bytes) -> list[Any]:
    """Return the data of server-sent events; ``[DONE]`` as it is."""
    found = []
    for event in raw.decode().split("\n\n"):
        if event.startswith("data: "):
            data = event.removeprefix("data: ")
            found.append(data if data == "[DONE]" else json.loads(data))
    return found


@asynccontextmanager
async def engines(*answers: Answer) -> AsyncIterator[list[Engine]]:
    """Give one engine for each answer; all are stopped at the end."""
    made = [Engine(answer) for answer in answers]
    for engine in made:
        await engine.start()
    try:
        yield made
    finally:
        for engine in made:
            await engine.stop()
