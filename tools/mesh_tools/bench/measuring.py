"""What the steps of ``mesh bench bus`` share: facts of the usual size, a count, a rate, a consumer."""

import asyncio
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from mesh_contracts.metering import UsageRecorded
from mesh_contracts.streams import ConsumerSpec
from mesh_contracts.units import Wide, derived_id, new_id
from meshkit import declare
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshkit.config import Secret, Settings
from meshkit.consumer import Pull

KEYS = 50
SAMPLED_EVERY = 100
"""One fact in so many has a trace that is kept, as in production behind a sampling edge."""
RATE_PER_S = 300
MEASURED = 3_000
WARM_UP = 300
STREAM = "METERING"


async def connect(url: str) -> Bus:
    """Return a connection to the benchmark's own server, which knows no users."""
    nobody = Path(os.devnull)
    settings = Settings(nats_url=url, nats_credentials=nobody, mesh_secret_file=nobody)
    return await Bus.connect(settings, user="metering", clock=SystemClock(), secret=Secret("bench"))


def fact(number: int, now: datetime) -> UsageRecorded:
    """Return a fact of the usual size; one in ``SAMPLED_EVERY`` in a trace that is kept."""
    key = derived_id("project", datetime.fromtimestamp(0, now.tzinfo), str(number % KEYS))
    sampled = "01" if number % SAMPLED_EVERY == 0 else "00"
    return UsageRecorded(
        fact_id=new_id("fact"),
        key=key,
        site="fr-idf-1",
        occurred_at=now,
        version=number // KEYS + 1,
        recorded_at=now,
        project=key,
        cause_id=new_id("fact"),
        traceparent=f"00-{number + 1:032x}-{number + 1:016x}-{sampled}",
        model="tiny",
        interval_start=now,
        interval_end=now,
        requests=1,
        prompt_tokens=12,
        completion_tokens=24,
        cost_microeur=Wide(9),
    )


class Count:
    """Counts handled facts, from the first to the last."""

    def __init__(self, facts: int) -> None:
        self.facts = facts
        self.handled = 0
        self.done = asyncio.Event()
        self._began = self._cpu = 0.0

    def one(self) -> None:
        """Count one more."""
        if self.handled == 0:
            self._began, self._cpu = time.perf_counter(), time.process_time()
        self.handled += 1
        if self.handled == self.facts:
            self.done.set()

    def figures(self) -> dict[str, Any]:
        """Return the rate and the CPU a fact."""
        wall, cpu = time.perf_counter() - self._began, time.process_time() - self._cpu
        return {"per_s": self.facts / wall, "cpu_us": cpu / self.facts * 1e6}


async def consumer(bus: Bus, name: str, *, new: bool = False) -> Pull:
    """Return a pull from a consumer made for the benchmark; ``new`` begins at its end."""
    spec = ConsumerSpec(name=name, stream=STREAM, reader="bench", filters=("metering.>",))
    request = declare.consumer_request(spec)
    if new:
        request["config"]["deliver_policy"] = "new"
    await admin(bus, f"CONSUMER.CREATE.{STREAM}.{name}", request)
    return Pull(bus, STREAM, name)


async def admin(bus: Bus, what: str, body: dict[str, Any]) -> None:
    """Ask the server for ``what``. Fails where it refuses."""
    answer = await bus.connection.request(f"$JS.API.{what}", json.dumps(body).encode(), timeout=5)
    fault = json.loads(answer.data).get("error")
    assert fault is None, fault


async def at_rate(tell: Callable[[int], Awaitable[None]]) -> None:
    """Call ``tell`` at ``RATE_PER_S``, whether or not earlier calls have ended."""
    began = time.perf_counter()
    tasks = []
    for number in range(MEASURED + WARM_UP):
        wait = began + number / RATE_PER_S - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.ensure_future(tell(number)))
    await asyncio.gather(*tasks)


async def until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    """Return once it is true. Raises ``TimeoutError``."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 a benchmark may poll
            await asyncio.sleep(0.01)


def spread(seconds: list[float]) -> dict[str, Any]:
    """Return the middle and the tail, in milliseconds, without the warm-up."""
    measured = seconds[WARM_UP:]
    cut = statistics.quantiles(measured, n=100)
    return {
        "rate_per_s": RATE_PER_S,
        "p50_ms": round(cut[49] * 1e3, 3),
        "p99_ms": round(cut[98] * 1e3, 3),
    }
