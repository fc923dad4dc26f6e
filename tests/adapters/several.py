"""Several gateways on one bus, with metering on a real Postgres behind them: what bounds hold over all together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from inference_gateway.app import Gateway, assemble
from mesh_contracts.ask import Principal
from mesh_contracts.identity import ProjectAdmitted
from mesh_contracts.metering import Budget, Limit, SetBudget, SetLimit
from mesh_contracts.placement import Routing
from meshkit.bucket import BucketWriter
from meshkit.clock import SystemClock
from meshkit.config import Secret
from meshkit.declare import declare
from meshkit.service import Service
from meshkit.testing import envelope, test_id
from metering.app import assemble as metering
from metering.settings import MeteringSettings

from tests.adapters.gateways import Engine, Town, begun, chunk, drawn_key, say, usage_chunk
from tests.adapters.roads import connected, settings, tell
from tests.adapters.services import FAR

ADMIN = Principal(principal_id="key_admin", role="admin", expires_at=FAR)
PRICE_MICROEUR = 20
"""What each token costs here, in and out."""
PROMPT_TOKENS = 5
"""What the engine counts in any prompt."""
TAKEN = (
    "SELECT c.scope_id, c.amount_microeur AS amount,"
    " coalesce((SELECT sum(spent_microeur) FROM spend s WHERE s.scope_id = c.scope_id), 0)::bigint AS spent,"
    " coalesce((SELECT sum(granted - returned - charged) FROM account a"
    " WHERE a.scope_id = c.scope_id), 0)::bigint AS held,"
    " (SELECT sum(requests) FROM share h WHERE h.scope_id = c.scope_id)::bigint AS requests,"
    " (SELECT sum(tokens) FROM share h WHERE h.scope_id = c.scope_id)::bigint AS tokens,"
    " (SELECT sum(parallel) FROM share h WHERE h.scope_id = c.scope_id)::bigint AS parallel,"
    " c.requests_per_minute, c.tokens_per_minute, c.parallel_requests FROM ceiling c"
)


class Tenant:
    """An organization with a project, a key and two models."""

    def __init__(self, name: str) -> None:
        self.organization, self.project = test_id("org", name), test_id("project", name)
        self.key = drawn_key()
        self.key_id = test_id("key", self.key[-8:])
        self.chat, self.embed = (
            test_id("endpoint", f"{name}/chat"),
            test_id("endpoint", f"{name}/embed"),
        )

    def scope(self, kind: str) -> str:
        kinds = {"organization": self.organization, "project": self.project, "key": self.key_id}
        return kinds.get(kind, self.chat)


class Several(Town):
    """Gateways that share what metering lends them. Bounds are set before they open: they know them at once."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder, url)
        self.gateways: list[Gateway] = []
        self.metering: Service
        self.engine: Engine
        self.tokens_made = 0
        """What the engine has made and counted, whoever was told of it."""
        self.pause_s = 0.0
        """How long the engine takes to answer."""
        self.active = self.most = 0
        """Requests at the engine now, and the most there have been."""
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        """Cleared, the engine keeps everybody waiting."""
        self._serial = count(1)

    @property
    def bases(self) -> list[str]:
        return [f"http://127.0.0.1:{gateway.port}" for gateway in self.gateways]

    async def tenant(self, name: str) -> Tenant:
        made = Tenant(name)
        owners = {"organization": made.organization, "project": made.project}
        fact = ProjectAdmitted(
            **envelope(made.project, organization=made.organization), name=name, organization_name=name
        )
        await tell(self.bus, fact)
        await self.put_key(made.key, project_name=name, **owners)
        routed = {**owners, "routing": Routing(parallel_max=10_000, overhead_tokens=16)}
        await self.put_route(self.engine.replica(), endpoint_id=made.chat, **routed)
        await self.put_route(
            self.engine.replica(), name="embed", endpoint_id=made.embed, embedding=True, **routed
        )
        return made

    async def budget(self, tenant: Tenant, kind: str, amount: int) -> Budget:
        wished = SetBudget(
            **self.bus.wish(ADMIN, idempotency_key=f"budget-{next(self._serial)}"),
            scope_kind=kind,  # type: ignore[arg-type]
            scope=tenant.scope(kind),
            amount_microeur=amount,  # type: ignore[arg-type]
            period="total",
        )
        made: Budget = await self._made(wished, Budget)
        return made

    async def limit(self, tenant: Tenant, kind: str = "project", **fields: int) -> Limit:
        wished = SetLimit(
            **self.bus.wish(ADMIN, idempotency_key=f"limit-{next(self._serial)}"),
            scope_kind=kind,  # type: ignore[arg-type]
            scope=tenant.scope(kind),
            **fields,
        )
        made: Limit = await self._made(wished, Limit)
        return made

    async def _made(self, wished: Any, kind: type) -> Any:
        answer = await self.bus.ask(wished)
        assert isinstance(answer, kind), answer
        return answer

    async def open(self, gateways: int) -> None:
        """Open so many gateways, each with a journal of its own."""
        for number in range(gateways):
            told = msgspec.structs.replace(self.settings(), gateway_data_dir=self.folder / f"g{number}")
            self.gateways.append(assemble(told))
            await self.gateways[-1].start()

    async def look(self) -> dict[str, Any]:
        """Return what stands in metering's tables by scope; every bound holds there at every look."""
        async with self.metering.store.transaction() as tx:
            rows = await tx.rows(TAKEN)
        for row in rows:
            if row["amount"] is not None:
                assert row["spent"] + row["held"] <= row["amount"], row
            for share, ceiling in (
                ("requests", "requests_per_minute"),
                ("tokens", "tokens_per_minute"),
                ("parallel", "parallel_requests"),
            ):
                assert (row[share] or 0) <= (row[ceiling] or 0), row
        return {row["scope_id"]: row for row in rows}

    async def looking(self, every_s: float = 0.05) -> int:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(every_s)

    async def lines(self) -> int:
        """Return how many requests stand in the ledger."""
        async with self.metering.store.transaction() as tx:
            return int(await tx.value("SELECT count(*) FROM usage_row"))

    async def shares(self, scope: str) -> list[tuple[int | None, int | None]]:
        """Return the shares of a scope, each gateway's: requests and tokens."""
        async with self.metering.store.transaction() as tx:
            rows = await tx.rows("SELECT requests, tokens FROM share WHERE scope_id = $1", scope)
        return [(row["requests"], row["tokens"]) for row in rows]

    async def producers(self) -> dict[str, int]:
        """Return the gateways that were granted money, and each one's newest epoch."""
        async with self.metering.store.transaction() as tx:
            rows = await tx.rows("SELECT producer, max(epoch) AS epoch FROM account GROUP BY producer")
        return {row["producer"]: row["epoch"] for row in rows}

    async def held_by(self, producer: str, epoch: int) -> int:
        """Return the money that one gateway holds since one start of it."""
        async with self.metering.store.transaction() as tx:
            return int(
                await tx.value(
                    "SELECT coalesce(sum(granted - returned - charged), 0)::bigint FROM account"
                    " WHERE producer = $1 AND epoch = $2",
                    *(producer, epoch),
                )
            )

    async def answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            await self.goes_on.wait()
            return await self._answer(request, body)
        finally:
            self.active -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        """Answer as an engine that reports what it made: some of what it might have."""
        if request.path.endswith("/embeddings"):
            self.tokens_made += PROMPT_TOKENS
            usage = {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS}
            data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
            return web.json_response({"object": "list", "model": "w", "data": data, "usage": usage})
        made = 1 + next(self._serial) * 7919 % int(body["max_tokens"])
        self.tokens_made += PROMPT_TOKENS + made
        if not body.get("stream"):
            await asyncio.sleep(self.pause_s)
            choices = [{"index": 0, "message": {"role": "assistant", "content": "x"}}]
            return web.json_response({"choices": choices, "usage": usage_chunk(made)["usage"]})
        response = await begun(request)
        for part in (1, 2):
            await say(response, chunk("word ", made * part // 2))
            await asyncio.sleep(self.pause_s / 2)
        await say(response, usage_chunk(made))
        await say(response, "[DONE]")
        return response


@asynccontextmanager
async def several(folder: Path, url: str, dsn: str) -> AsyncIterator[Several]:
    """Give a bus, metering, and an engine; gateways are opened by ``open`` and all closed at the end."""
    made = Several(folder, url)
    made.bus = await connected(folder, url, "admin")
    await declare(made.bus)
    told = settings(folder, url, dsn)
    common = {name: getattr(told, name) for name in told.__struct_fields__}
    made.metering = metering(MeteringSettings(**{**common, "postgres_dsn": Secret(dsn)}), SystemClock())
    await made.metering.start()
    async with made.metering.store.transaction() as tx:
        price = PRICE_MICROEUR * 1_000_000
        await tx.change("UPDATE price SET price_microeur_per_mtoken_in = $1", price)
        await tx.change("UPDATE price SET price_microeur_per_mtoken_out = $1", price)
    for bucket in ("access", "routes"):
        made.writers[bucket] = BucketWriter(made.bus, bucket, epoch=1)
        await made.writers[bucket].start()
    made.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    made.engine = Engine(made.answer)
    await made.engine.start()
    try:
        yield made
    finally:
        await made.http.close()
        await asyncio.gather(*(gateway.stop() for gateway in made.gateways))
        await made.engine.stop()
        for writer in made.writers.values():
            await writer.close()
        await made.metering.stop()
        await made.bus.close()
