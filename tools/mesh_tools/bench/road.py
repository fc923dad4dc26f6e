"""Our side of ``mesh bench bus``: one step of the measurement, in a process of its own.

``python -m mesh_tools.bench.road STEP NATS_URL …`` prints one JSON object.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import uvloop
from mesh_contracts.fact import subject_of
from mesh_contracts.metering import UsageRecorded
from mesh_contracts.streams import ConsumerSpec
from mesh_contracts.units import Wide, derived_id, new_id
from mesh_contracts.wire import encode
from meshkit import declare
from meshkit.bus import Bus
from meshkit.clock import Clock, SystemClock
from meshkit.config import Secret, Settings
from meshkit.consumer import Pull
from meshkit.handled import Handled
from meshkit.hear import Lanes
from meshkit.reader import Reader
from meshkit.relay import Relay
from meshkit.store import Store, Transaction

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


async def publish(url: str, facts: int) -> dict[str, Any]:
    """Declare the stream and store ``facts`` in it."""
    bus = await connect(url)
    await declare.declare(bus)
    now = bus.clock.now()
    for first in range(0, facts, 500):
        told = [fact(number, now) for number in range(first, min(first + 500, facts))]
        await asyncio.gather(
            *(
                bus.store(
                    subject_of(one),
                    encode(one),
                    msg_id=one.fact_id,
                    headers={"traceparent": one.traceparent or ""},
                )
                for one in told
            )
        )
    await bus.close()
    return {"stored": facts}


async def handle(url: str, facts: int, run: str) -> dict[str, Any]:
    """Handle every stored fact without a database; return the rate and CPU a fact."""
    bus = await connect(url)
    pull = await _consumer(bus, f"bench_{STREAM}_{run}")
    count = _Count(facts)

    async def on_usage(told: UsageRecorded) -> None:
        assert told.requests >= 0
        count.one()

    lanes = Lanes(pull.name, pull, {UsageRecorded: on_usage})
    lanes.start()
    await pull.start(lanes.heard)
    await count.done.wait()
    figures = count.figures()
    await pull.stop()
    await lanes.stop()
    await bus.close()
    return figures


async def inbox(url: str, facts: int, run: str) -> dict[str, Any]:
    """Handle every stored fact with inbox, effect and commit in Postgres; return the rate."""
    bus = await connect(url)
    store = await _store()
    async with store.transaction() as tx:
        await tx.change("DROP TABLE IF EXISTS effect")
        await tx.change("CREATE TABLE effect (fact_id text PRIMARY KEY, tokens bigint NOT NULL)")
    pull = await _consumer(bus, f"inbox_{STREAM}_{run}")
    count = _Count(facts)
    transactions: set[datetime] = set()

    async def on_usage(told: UsageRecorded, tx: Transaction, _clock: Clock) -> None:
        await tx.change("INSERT INTO effect VALUES ($1, $2)", told.fact_id, told.completion_tokens)
        transactions.add(tx.now)
        count.one()

    figures = await _read(store, pull, on_usage, count)
    figures["commits"] = len(transactions)
    async with store.transaction() as tx:
        kept = await tx.value("SELECT count(*) FROM effect")
    assert kept == facts, f"{kept} effects of {facts} facts"
    await store.close()
    await bus.close()
    return figures


async def _read(
    store: Store,
    pull: Pull,
    on_usage: Callable[[Any, Transaction, Clock], Awaitable[None]],
    count: "_Count",
) -> dict[str, Any]:
    reader = Reader(Handled(pull.name, store, {UsageRecorded: on_usage}), pull)
    await reader.begin()
    running = asyncio.create_task(reader.run())
    await pull.start(reader.heard)
    await count.done.wait()
    while reader.backlog:  # noqa: ASYNC110 the last transaction commits
        await asyncio.sleep(0.001)
    figures = count.figures()
    await pull.stop()
    reader.stop()
    await running
    return figures


async def published(url: str) -> dict[str, Any]:
    """Return how long a published fact takes until its handler is entered, at ``RATE_PER_S``."""
    bus = await connect(url)
    entered: list[float] = []
    sent: dict[str, float] = {}

    async def on_usage(told: UsageRecorded) -> None:
        if told.fact_id in sent:
            entered.append(time.perf_counter() - sent[told.fact_id])

    pull = await _consumer(bus, f"published_{STREAM}_0", new=True)
    lanes = Lanes(pull.name, pull, {UsageRecorded: on_usage})
    lanes.start()
    await pull.start(lanes.heard)

    async def tell(number: int) -> None:
        one = fact(number, bus.clock.now())
        sent[one.fact_id] = time.perf_counter()
        await bus.store(subject_of(one), encode(one), msg_id=one.fact_id)

    await _at_rate(tell)
    await _until(lambda: len(entered) >= MEASURED)
    await pull.stop()
    await lanes.stop()
    await bus.close()
    return _spread(entered)


async def committed(url: str) -> dict[str, Any]:
    """Return how long a committed fact takes through the outbox until its handler is entered."""
    bus = await connect(url)
    store = await _store()
    relay = Relay(store, bus)
    relaying = asyncio.create_task(relay.run())
    entered: list[float] = []
    sent: dict[str, float] = {}
    heard: dict[str, float] = {}

    async def on_usage(told: UsageRecorded) -> None:
        heard[told.fact_id] = time.perf_counter()

    pull = await _consumer(bus, f"committed_{STREAM}_0", new=True)
    lanes = Lanes(pull.name, pull, {UsageRecorded: on_usage})
    lanes.start()
    await pull.start(lanes.heard)

    async def tell(number: int) -> None:
        one = fact(number, bus.clock.now())
        async with store.transaction() as tx:
            await tx.tell(one)
        sent[one.fact_id] = time.perf_counter()

    await _at_rate(tell)
    await _until(lambda: len(heard) >= len(sent) >= MEASURED)
    # The relay may be quicker than the return of our own commit: that is zero, not less.
    entered = [max(0.0, heard[fact_id] - at) for fact_id, at in sent.items()]
    await pull.stop()
    await lanes.stop()
    relaying.cancel()
    await asyncio.gather(relaying, return_exceptions=True)
    await store.close()
    await bus.close()
    return _spread(entered)


class _Count:
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


async def _store() -> Store:
    dsn = Secret(os.environ["BENCH_POSTGRES_DSN"])
    return await Store.connect(dsn, owner="metering", clock=SystemClock())


async def _consumer(bus: Bus, name: str, *, new: bool = False) -> Pull:
    spec = ConsumerSpec(name=name, stream=STREAM, reader="bench", filters=("metering.>",))
    request = declare.consumer_request(spec)
    if new:
        request["config"]["deliver_policy"] = "new"
    await _admin(bus, f"CONSUMER.CREATE.{STREAM}.{name}", request)
    return Pull(bus, STREAM, name)


async def _admin(bus: Bus, what: str, body: dict[str, Any]) -> None:
    answer = await bus.connection.request(f"$JS.API.{what}", json.dumps(body).encode(), timeout=5)
    fault = json.loads(answer.data).get("error")
    assert fault is None, fault


async def _at_rate(tell: Callable[[int], Awaitable[None]]) -> None:
    began = time.perf_counter()
    tasks = []
    for number in range(MEASURED + WARM_UP):
        wait = began + number / RATE_PER_S - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.ensure_future(tell(number)))
    await asyncio.gather(*tasks)


async def _until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 a benchmark may poll
            await asyncio.sleep(0.01)


def _spread(seconds: list[float]) -> dict[str, Any]:
    measured = seconds[WARM_UP:]
    cut = statistics.quantiles(measured, n=100)
    return {
        "rate_per_s": RATE_PER_S,
        "p50_ms": round(cut[49] * 1e3, 3),
        "p99_ms": round(cut[98] * 1e3, 3),
    }


STEPS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "publish": lambda url, facts: publish(url, int(facts)),
    "handle": lambda url, facts, run: handle(url, int(facts), run),
    "inbox": lambda url, facts, run: inbox(url, int(facts), run),
    "published": published,
    "committed": committed,
}


async def _main() -> None:
    print(json.dumps(await STEPS[sys.argv[1]](*sys.argv[2:])))


if __name__ == "__main__":
    uvloop.run(_main())
