"""Limits that three gateways share: admitted within what was lent, and told truly when to come back."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from inference_gateway.domain.admission.scope import PROVISIONAL_PART
from inference_gateway.leasing import ASK_WITHIN_S

from tests.adapters.roads import eventually
from tests.adapters.several import Several, Tenant, several
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

GATEWAYS = 3
CLIENTS = 40
REQUESTS, TOKENS, PLACES = 240, 6_000, 12
FLOOD_S = 3.0


@pytest.fixture
async def here(
    tmp_path: Path, nats_server: NatsServer, postgres: PostgresServer
) -> AsyncIterator[Several]:
    async with several(tmp_path, nats_server.url, postgres.dsn("metering")) as made:
        yield made


class Answer:
    """One plain answer of one door."""

    def __init__(self, status: int, headers: Any, body: dict[str, Any]) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def wait_s(self) -> float:
        """After what time to come back, as the answer says in both of its ways."""
        wait_ms = int(self.headers["retry-after-ms"])
        assert int(self.headers["retry-after"]) == -(-wait_ms // 1_000)
        return wait_ms / 1_000

    def says(self, what: str) -> str:
        said: str = self.headers[f"x-ratelimit-{what}"]
        return said

    def refused_for(self, limit: str) -> None:
        error = self.body["error"]
        assert (self.status, error["code"], error["type"]) == (
            429,
            "rate_limit_exceeded",
            "rate_limit_error",
        )
        assert error["reasons"][0]["code"] == limit
        assert "Come back" in error["message"]
        assert "x-should-retry" not in self.headers


async def ask(here: Several, tenant: Tenant, base: str, max_tokens: int = 100) -> Answer:
    body = {"model": "chat", "messages": [{"role": "user", "content": "x"}], "max_tokens": max_tokens}
    headers = {"authorization": f"Bearer {tenant.key}"}
    async with here.http.post(f"{base}/v1/chat/completions", json=body, headers=headers) as answer:
        return Answer(answer.status, answer.headers, json.loads(await answer.read()))


async def flooded(here: Several, tenant: Tenant, limit: str) -> list[Answer]:
    """Return all that was answered to clients who ask every door for a while, and come back as told."""
    end = asyncio.get_running_loop().time() + FLOOD_S
    answers = []

    async def client(number: int) -> None:
        while asyncio.get_running_loop().time() < end:
            number += 1
            answers.append(await ask(here, tenant, here.bases[number % GATEWAYS]))
            if answers[-1].status != 200:
                answers[-1].refused_for(limit)
                left_s = max(end - asyncio.get_running_loop().time(), 0.0)
                await asyncio.sleep(min(max(answers[-1].wait_s, 0.1), left_s))

    await asyncio.gather(*map(client, range(CLIENTS)))
    return answers


def bound(ceiling: int, seconds: float) -> float:
    """Return what may come in at most within so many seconds of the first ask.

    A minute's burst, since the first shares of all gateways add up to the ceiling at most; what rises
    in that time; and what each gateway went by before its first lease. A share that moves from one
    to another rises at both for no longer than an ask takes.
    """
    return ceiling * (1 + (seconds + ASK_WITHIN_S) / 60) + GATEWAYS * max(
        ceiling // PROVISIONAL_PART, 1
    )


async def test_a_flood_at_three_gateways_gets_a_minutes_burst_and_what_rises_and_no_more(
    here: Several,
) -> None:
    by_requests, by_tokens = await here.tenant("requests"), await here.tenant("tokens")
    await here.limit(by_requests, requests_per_minute=REQUESTS)
    await here.limit(by_tokens, tokens_per_minute=TOKENS)
    began = asyncio.get_running_loop().time()
    await here.open(GATEWAYS)
    looking = asyncio.create_task(here.looking())
    of_requests, of_tokens = await asyncio.gather(
        flooded(here, by_requests, "requests_per_minute"),
        flooded(here, by_tokens, "tokens_per_minute"),
    )
    seconds = asyncio.get_running_loop().time() - began
    looking.cancel()
    came = sum(one.status == 200 for one in of_requests)
    used = sum(one.body["usage"]["total_tokens"] for one in of_tokens if one.status == 200)
    sys.stdout.write(
        f"\n{seconds:.1f} s: {came} of {REQUESTS} requests, {used} of {TOKENS} tokens a minute came in"
    )
    assert REQUESTS / 10 < came <= bound(REQUESTS, seconds)
    assert TOKENS / 10 < used <= bound(TOKENS, seconds)
    assert came < len(of_requests), "some were told to come back"
    said = [one for one in of_requests if one.status == 200]
    assert {one.says("limit-requests") for one in said} == {str(REQUESTS)}
    assert all(0 <= int(one.says("remaining-requests")) < REQUESTS for one in said)
    assert all(one.says("limit-tokens") == str(TOKENS) for one in of_tokens if one.status == 200)


async def test_whoever_comes_back_when_it_was_told_is_let_in(here: Several) -> None:
    by_requests, by_tokens = await here.tenant("requests"), await here.tenant("tokens")
    await here.limit(by_requests, requests_per_minute=REQUESTS)
    await here.limit(by_tokens, tokens_per_minute=TOKENS)
    await here.open(GATEWAYS)
    # While nobody asks each has its third; then the share of whom is asked rises.
    third = REQUESTS // GATEWAYS
    await eventually(lambda: here.shares(by_requests.project), [(third, None)] * GATEWAYS)
    third = TOKENS // GATEWAYS
    await eventually(lambda: here.shares(by_tokens.project), [(None, third)] * GATEWAYS)
    for tenant, limit, left, most_left in (
        (by_requests, "requests_per_minute", "remaining-requests", 1),
        (by_tokens, "tokens_per_minute", "remaining-tokens", 300),
    ):
        before, answer = None, await ask(here, tenant, here.bases[0])
        while answer.status == 200:
            before, answer = answer, await ask(here, tenant, here.bases[0])
        answer.refused_for(limit)
        if before is not None:
            assert int(before.says(left)) < most_left, "less than the next one may take"
        await asyncio.sleep(answer.wait_s)
        assert (await ask(here, tenant, here.bases[0])).status == 200


async def test_a_place_that_is_taken_at_one_gateway_is_lent_to_no_other(here: Several) -> None:
    tenant = await here.tenant("one")
    await here.limit(tenant, parallel_requests=PLACES)
    await here.open(GATEWAYS)
    first, *others = here.bases
    here.goes_on.clear()
    inside: set[asyncio.Task[Answer]] = set()
    async with asyncio.timeout(20):
        while here.active < PLACES:
            one = asyncio.create_task(ask(here, tenant, first))
            await asyncio.wait({one}, timeout=0.2)
            inside |= set() if one.done() else {one}
    # Each renewal would have moved places to those who want them.
    for _ in range(4):
        async with asyncio.timeout(20):
            # Who was let in would wait with the others.
            asked = await asyncio.gather(*(ask(here, tenant, base) for base in others * PLACES))
        for answer in asked:
            answer.refused_for("parallel_requests")
            assert answer.wait_s == 1.0
        await asyncio.sleep(1.0)
    assert here.most == PLACES
    here.goes_on.set()
    assert {one.status for one in await asyncio.gather(*inside)} == {200}
    async with asyncio.timeout(20):
        for base in others:
            while (answer := await ask(here, tenant, base)).status != 200:  # noqa: ASYNC110
                await asyncio.sleep(answer.wait_s / 4)
