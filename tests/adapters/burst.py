"""Clients that ask as fast as they are let, come back when they are told to, and note what they saw."""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from typing import Any

import aiohttp

from tests.adapters.gateways import sse
from tests.adapters.several import PRICE_MICROEUR, Several, Tenant

MAX_TOKENS = 400
PATIENCE = 3
"""Times in a row that a client comes back after a second, in vain, before it has no hope."""
FIRST_WAIT_S = 0.15
"""Half of how long a client waits after its first refusal, if it is told to wait less; then twice as long."""
ADVICE = {
    "insufficient_quota": "Have it raised",
    "budget_short": "lower max_tokens",
    "budget_unconfirmed": "Come back in",
}
"""What to do, in the words of each refusal for want of money."""


class Seen:
    """What all clients together saw."""

    def __init__(self) -> None:
        self.answered = 0
        self.cost = 0
        self.lost = 0
        """Answers that broke off, or never began."""
        self.refused: Counter[str] = Counter()


class Client:
    """Asks one door after the other, streamed and plain and embeddings by turns, until no money is left."""

    def __init__(self, here: Several, tenant: Tenant, number: int, seen: Seen, *, embeds: bool) -> None:
        self.here, self.tenant, self.number, self.seen = here, tenant, number, seen
        self.embeds = embeds and number % 5 == 0
        self._hope, self._patience_s = PATIENCE, FIRST_WAIT_S

    async def spend(self, bases: list[str]) -> None:
        """Ask until that is said to be of no use, or hope is gone."""
        turn = self.number
        while self._hope:
            turn += 1
            try:
                wait_s = await self._ask(bases[turn % len(bases)], turn)
            except aiohttp.ClientError:
                self.seen.lost += 1
                wait_s = FIRST_WAIT_S
            if wait_s is None:
                return
            await asyncio.sleep(wait_s)

    async def _ask(self, base: str, turn: int) -> float | None:
        """Return after what time to ask again; nothing where it is of no use."""
        stream = turn % 2 == 0
        path, body = "/v1/chat/completions", self._chat(stream=stream)
        if self.embeds and turn % 3 == 0:
            path, body, stream = "/v1/embeddings", {"model": "embed", "input": "one text"}, False
        headers = {"authorization": f"Bearer {self.tenant.key}"}
        async with self.here.http.post(f"{base}{path}", json=body, headers=headers) as answer:
            raw = await answer.read()
            if answer.status != 200:
                return self._refused(answer.status, answer.headers, json.loads(raw)["error"])
        said = sse(raw)[-2] if stream else json.loads(raw)
        self._hope, self._patience_s = PATIENCE, FIRST_WAIT_S
        self.seen.answered += 1
        self.seen.cost += said["usage"]["total_tokens"] * PRICE_MICROEUR
        return 0.0

    def _chat(self, *, stream: bool) -> dict[str, Any]:
        return {
            "model": "chat",
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": MAX_TOKENS,
            "stream": stream,
            "stream_options": {"include_usage": True},
        }

    def _refused(self, status: int, headers: Any, error: dict[str, Any]) -> float | None:
        code, wait_ms = error["code"], headers.get("retry-after-ms")
        self.seen.refused[code] += 1
        assert ADVICE[code] in error["message"], error
        assert error["reasons"][0]["code"] == "budget"
        if code == "insufficient_quota":
            assert (status, error["type"]) == (429, "insufficient_quota")
            assert (headers["x-should-retry"], wait_ms) == ("false", None), "a client goes by it"
            return None
        assert status == (503 if code == "budget_unconfirmed" else 429)
        assert "x-should-retry" not in headers
        assert 0 < int(wait_ms) <= 1_000, "soon, and a client knows when"
        assert int(headers["retry-after"]) == 1
        self._hope -= int(wait_ms) == 1_000
        self._patience_s = min(2 * self._patience_s, 2.0)
        return max(int(wait_ms) / 1_000, self._patience_s)


async def burst(
    here: Several,
    tenants: list[Tenant],
    clients: int,
    bases: list[str],
    seen: Seen,
    *,
    embeds: bool = True,
) -> None:
    """Have so many clients ask at once, until none has hope; look at metering's tables all the while."""
    looking = asyncio.create_task(here.looking())
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            one = Client(here, tenants[number % len(tenants)], number, seen, embeds=embeds)
            group.create_task(one.spend(bases))
    assert not looking.done(), looking.exception()
    looking.cancel()
    with suppress(asyncio.CancelledError):
        await looking
