"""Lines, and requests that come, wait and end, as the tests of waiting need them."""

import asyncio
from typing import Any

from inference_gateway.domain.routing.fleet import Chosen, Fleet
from inference_gateway.waiting import Lines, Waiting
from mesh_contracts.placement import Route

from tests.domain.routes import ask, route


def lines_of(*routes: Route, heard: list[str] | None = None) -> Lines:
    lines = Lines(Fleet(), lambda: 0.5, None if heard is None else heard.append)
    for one in routes:
        lines.put(one.endpoint_id, one)
    return lines


def narrow(replicas: int = 1, **routing: Any) -> Route:
    return route(replicas, routing={"parallel_max": 1, **routing})


def entered(lines: Lines, to: Route, **fields: Any) -> Chosen:
    got = lines.enter(to, ask(**fields))
    assert isinstance(got, Chosen), got
    return got


def queued(lines: Lines, to: Route, *tried: str, **fields: Any) -> Waiting:
    got = lines.enter(to, ask(*tried, **fields))
    assert isinstance(got, Waiting), got
    return got


def end(lines: Lines, chosen: Chosen, outcome: Any = "ok") -> None:
    lines.fleet.end(chosen, asyncio.get_running_loop().time(), outcome)


async def got(waiting: Waiting) -> Chosen:
    answer = await waiting.chosen(5)
    assert isinstance(answer, Chosen), answer
    return answer
