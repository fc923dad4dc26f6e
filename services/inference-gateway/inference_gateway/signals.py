"""Engines are asked how busy they are, every two seconds, where the answer changes a choice."""

import asyncio
from collections.abc import Callable, Iterable

import aiohttp
from mesh_contracts.placement import Replica, Route

from inference_gateway.domain.routing.fleet import Fleet
from inference_gateway.domain.routing.signals import Signals, parse

ASK_EVERY_S = 2.0
ANSWER_WITHIN_S = 1.0
PAGE_BYTES_MAX = 256 * 1024
AT_ONCE_MAX = 16
"""Engines asked at once."""

MISSING_AGAIN_S = 60.0
"""When an engine is asked again that has no such page, or does not answer."""

TELLING = ("vllm", "llama")
"""Engines that say how busy they are."""


class Scraper:
    """Asks the engines of endpoints with several replicas, and of those that somebody waits for."""

    def __init__(
        self,
        fleet: Fleet,
        routes: Callable[[], Iterable[Route]],
        waited_for: Callable[[], Iterable[str]],
        session: aiohttp.ClientSession,
    ) -> None:
        self._fleet = fleet
        self._routes = routes
        self._waited_for = waited_for
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._at_once = asyncio.Semaphore(AT_ONCE_MAX)
        self._missing: dict[str, float] = {}

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await self.ask_all()
            await asyncio.sleep(ASK_EVERY_S)

    async def ask_all(self) -> None:
        """Ask each engine once whose answer matters now."""
        now = self._loop.time()
        self._missing = {one: until for one, until in self._missing.items() if until > now}
        waited_for = set(self._waited_for())
        await asyncio.gather(
            *(
                self._ask(route.endpoint_id, replica)
                for route in self._routes()
                if route.engine in TELLING
                and (len(route.replicas) > 1 or route.endpoint_id in waited_for)
                for replica in route.replicas
                if replica.workload_id not in self._missing
            )
        )

    async def _ask(self, endpoint_id: str, replica: Replica) -> None:
        async with self._at_once:
            signals = await self._signals(replica)
        if signals is None:
            self._missing[replica.workload_id] = self._loop.time() + MISSING_AGAIN_S
        else:
            self._fleet.heed(endpoint_id, replica.workload_id, signals, self._loop.time())

    async def _signals(self, replica: Replica) -> Signals | None:
        headers = {"authorization": f"Bearer {replica.api_key}"} if replica.api_key else {}
        timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
        try:
            async with self._session.get(
                f"{replica.scheme}://{replica.address}/metrics",
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as answer:
                if answer.status != 200:
                    return None
                page = await _page(answer)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None
        return parse(page.decode(errors="replace"))


async def _page(answer: aiohttp.ClientResponse) -> bytes:
    """Return the page, or as much of it as is read."""
    parts, size = [], 0
    async for part in answer.content.iter_any():
        parts.append(part)
        size += len(part)
        if size >= PAGE_BYTES_MAX:
            break
    return b"".join(parts)[:PAGE_BYTES_MAX]
