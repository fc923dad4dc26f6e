"""Engines are asked how busy they are: where it matters, within bounds, and rarely where they do not say."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from inference_gateway import signals
from inference_gateway.domain.routing.fleet import Fleet
from inference_gateway.signals import Scraper
from mesh_contracts.placement import Replica, Route
from meshkit.testing import test_id

from tests.domain.routes import ask, replica, route, whole

PAGE = "vllm:num_requests_running 20\nvllm:num_requests_waiting 5\nvllm:kv_cache_usage_perc 0.9\n"


class Engine:
    """Answers ``/metrics`` as it is told to, and counts who asked with which key."""

    def __init__(self) -> None:
        self.page: str | None = PAGE
        self.asked: Counter[str] = Counter()
        self.answers = asyncio.Event()
        self.answers.set()
        self.address = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked[request.headers.get("authorization", "")] += 1
        await self.answers.wait()
        return web.Response(status=404) if self.page is None else web.Response(text=self.page)

    def route(self, *names: str, **fields: Any) -> Route:
        """Return a route to this engine under each name, and to one that is not there."""
        replicas = [
            Replica(workload_id=test_id("workload", name), address=self.address, api_key=name)
            for name in names
        ]
        return route([*replicas, replica("z")], **fields)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine()
    app = web.Application()
    app.router.add_get("/metrics", engine.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    engine.address = f"{host}:{port}"
    yield engine
    engine.answers.set()
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def asking(
    session: aiohttp.ClientSession, *routes: Route, waited_for: tuple[str, ...] = ()
) -> tuple[Scraper, Fleet]:
    fleet = Fleet()
    for one in routes:
        fleet.put(one.endpoint_id, one)
    return Scraper(fleet, lambda: routes, lambda: waited_for, session), fleet


async def test_an_engine_that_others_keep_busy_is_passed_by(
    engine: Engine, session: aiohttp.ClientSession
) -> None:
    to = engine.route("a")
    scraper, fleet = asking(session, to)
    now = asyncio.get_running_loop().time()
    assert {whole(fleet, to, "ok", now=now) for _ in range(6)} == {"a", "z"}
    await scraper.ask_all()
    assert {whole(fleet, to, "ok", now=now) for _ in range(6)} == {"z"}
    assert engine.asked == {"Bearer a": 1}


async def test_only_engines_whose_answer_changes_a_choice_are_asked(
    engine: Engine, session: aiohttp.ClientSession
) -> None:
    (own, *_) = engine.route("alone").replicas
    alone = route([own], name="alone")
    foreign = engine.route("foreign", name="foreign", engine="external")
    scraper, _ = asking(session, alone, foreign)
    await scraper.ask_all()
    assert not engine.asked
    scraper, _ = asking(session, alone, foreign, waited_for=(alone.endpoint_id, foreign.endpoint_id))
    await scraper.ask_all()
    assert engine.asked == {"Bearer alone": 1}


@pytest.mark.parametrize("page", [None, "<html>", ""])
async def test_an_engine_that_does_not_say_is_asked_rarely(
    engine: Engine, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, page: str | None
) -> None:
    engine.page = page
    scraper, _ = asking(session, engine.route("a"))
    for _ in range(3):
        await scraper.ask_all()
    assert engine.asked == {"Bearer a": 1}
    monkeypatch.setattr(signals, "MISSING_AGAIN_S", 0.0)
    scraper, _ = asking(session, engine.route("a"))
    for _ in range(3):
        await scraper.ask_all()
    assert engine.asked == {"Bearer a": 4}, "rarely is not never"


async def test_an_engine_that_does_not_answer_holds_nobody_up(
    engine: Engine, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "ANSWER_WITHIN_S", 0.05)
    engine.answers.clear()
    scraper, _ = asking(session, engine.route(*"abc"))
    await asyncio.wait_for(scraper.ask_all(), 5)
    assert sum(engine.asked.values()) == 3
    await scraper.ask_all()
    assert sum(engine.asked.values()) == 3


async def test_a_page_without_end_is_read_up_to_its_bound(
    engine: Engine, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "PAGE_BYTES_MAX", len(PAGE))
    engine.page = PAGE + "vllm:num_requests_running 1000\n" * 20_000
    to = engine.route("a")
    scraper, fleet = asking(session, to)
    await scraper.ask_all()
    chosen = fleet.choose(to, ask(), asyncio.get_running_loop().time(), 0.0)
    assert chosen is not None
    loads = {one.workload_id: one.load for one in chosen.considered}
    assert 0 < loads[test_id("workload", "a")] < 100_000
