"""Demand as placement hears it: replicas come and go, and finish what they have, on a clock that is moved."""

from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from mesh_contracts.inference import Demand, DemandChanged
from mesh_contracts.node import WorkloadStatus
from mesh_contracts.placement import CreateEndpoint, EndpointChanged, Model, Replicas, Route
from meshkit.clock import SystemClock
from meshkit.config import Secret
from meshkit.store import Store
from meshkit.telemetry import METRICS
from meshkit.testing import FrozenClock, envelope, test_id, wish
from placement import asks, demands, handlers, intents, reading, settle, turns
from placement.app import MIGRATIONS
from placement.domain.fleet import Wanted

from tests.adapters.fleet import ADMIN, PROJECT, Site, eventually, node_is, state_of
from tests.adapters.roads import tell
from tests.adapters.watched import Hall
from tests.servers_nats import NatsServer
from tests.servers_postgres import PostgresServer

pytestmark = pytest.mark.slow

BOUNDS = Replicas(
    min=0, max=2, target=4, up_after_ms=5_000, down_after_ms=10_000, sleep_after_ms=20_000
)
STANDS_MS = 15_000


class Theatre(Hall):
    """A hall with two nodes and one endpoint, gateways that tell demand, and engines that answer."""

    def __init__(self, store: Store, clock: FrozenClock) -> None:
        super().__init__(store, clock)
        self._sequences = count(1)
        self.endpoint = ""

    async def begin(self, bounds: Replicas = BOUNDS, **fields: Any) -> None:
        await self.join("n1", "n2")
        async with self.store.transaction() as tx:
            await handlers.on_project_admitted(Site.admitted(PROJECT, "demo"), tx, self.clock)
            ask = CreateEndpoint(
                **wish(),
                name="story",
                project=PROJECT,
                model=Model(id="tiny"),
                replicas=bounds,
                **fields,
            )
            made: Any = await asks.create_endpoint(ask, ADMIN, tx, self.clock)
        self.endpoint = made.id

    async def demand(
        self,
        in_flight: int = 0,
        *,
        queued: int = 0,
        waking: bool = False,
        gateway: str = "g1",
        sequence: int | None = None,
        endpoint: str = "",
        late_s: float = 0,
        **fields: Any,
    ) -> None:
        producer = test_id("producer", gateway)
        born = {**envelope(producer), "occurred_at": self.clock.now() - timedelta(seconds=late_s)}
        one = Demand(
            endpoint_id=endpoint or self.endpoint,
            in_flight=in_flight,
            queued=queued,
            waking=waking,
            **fields,
        )
        fact = DemandChanged(
            **born,
            producer=producer,
            sequence=next(self._sequences) if sequence is None else sequence,
            stands_ms=STANDS_MS,
            demands=[one],
        )
        async with self.store.transaction() as tx:
            await handlers.on_demand_changed(fact, tx, self.clock)

    async def answer(self) -> None:
        """Have every engine that is placed answer."""
        async with self.store.transaction() as tx:
            for item in await reading.load_running(tx):
                if item.state in {"assigned", "starting"}:
                    occasion, now = self.pulse._occasion(), self.clock.now()
                    await turns.now_ready(tx, occasion, now, item, scheme="http", address="127.0.0.1:7")

    async def now(self) -> Wanted:
        async with self.store.transaction() as tx:
            found = await reading.load_wanted(tx, self.endpoint)
        assert found is not None
        return found

    async def route(self) -> Route:
        async with self.store.transaction() as tx:
            routes = await settle.all_routes(tx)
        found: Route = routes[self.endpoint]
        return found

    async def intended(self) -> list[str]:
        async with self.store.transaction() as tx:
            held = await intents.all_intents(tx)
        return sorted(item.workload_id for intent in held.values() for item in intent.workloads)

    async def beat(self, seconds: int) -> None:
        """Let time pass; nodes list what they run."""
        async with self.store.transaction() as tx:
            running = await reading.load_running(tx)
        for node_id in self.speaking:
            self.speaking[node_id] = [
                WorkloadStatus(workload_id=item.workload_id, state="ready", address="127.0.0.1:7")
                for item in running
                if item.node_id == node_id
            ]
        await self.pass_(seconds)


@pytest.fixture
async def here(postgres: PostgresServer) -> AsyncIterator[Theatre]:
    clock = FrozenClock()
    store = await Store.connect(
        Secret(postgres.dsn("placement")), owner="placement", clock=clock, migrations=MIGRATIONS
    )
    yield Theatre(store, clock)
    await store.close()


async def test_a_request_wakes_an_endpoint_that_sleeps_and_it_sleeps_again(here: Theatre) -> None:
    await here.begin()
    asleep = await here.now()
    assert (asleep.state, asleep.wanted, (await here.route()).wakes) == ("asleep", 0, True)
    await here.demand(queued=1, waking=True)
    woken = await here.now()
    assert (woken.state, woken.wanted, (await here.route()).wakes) == ("starting", 1, True)
    await here.answer()
    assert ((await here.now()).state, (await here.route()).wakes) == ("serving", False)

    await here.beat(3)
    await here.demand(idle_ms=1_000)
    await here.beat(18)
    assert (await here.now()).state == "serving"
    await here.beat(1)
    slept = await here.now()
    assert (slept.state, slept.wanted, slept.look_at) == ("asleep", 0, None)
    assert (await here.route()).replicas == []
    assert len(await here.intended()) == 1, "the route loses it first"
    await here.beat(3)
    assert await here.intended() == []


async def test_two_gateways_add_up_and_the_second_replica_goes_once_its_requests_have_ended(
    here: Theatre,
) -> None:
    await here.begin(Replicas(min=1, max=2, up_after_ms=5_000, down_after_ms=10_000))
    await here.answer()
    await here.demand(3, gateway="g1")
    await here.demand(2, gateway="g2")
    await here.beat(4)
    assert (await here.now()).wanted == 1
    await here.beat(1)
    grown = await here.now()
    assert (grown.wanted, grown.state, [one.code for one in grown.reasons]) == (
        2,
        "serving",
        ["replica_starting"],
    )
    await here.answer()
    assert len((await here.route()).replicas) == 2

    await here.demand(1, gateway="g1")
    await here.beat(9)
    await here.demand(1, gateway="g1")
    assert (await here.now()).wanted == 2
    await here.beat(1)
    assert (await here.now()).wanted == 1
    assert len((await here.route()).replicas) == 1
    await here.demand(1, gateway="g1")
    await here.beat(10)
    assert len(await here.intended()) == 2, "a request may still be there"
    await here.demand(0, gateway="g1")
    await here.beat(1)
    assert len(await here.intended()) == 1


async def test_a_replica_that_drains_serves_again_at_once_or_stops_when_its_time_is_over(
    here: Theatre,
) -> None:
    await here.begin(Replicas(min=1, max=2, up_after_ms=0, down_after_ms=0))
    await here.answer()
    await here.demand(5)
    await here.answer()
    both = await here.intended()
    await here.demand(1)
    assert len((await here.route()).replicas) == 1
    await here.demand(5)
    assert len((await here.route()).replicas) == 2
    assert await here.intended() == both
    await here.demand(1)
    for _ in range(int(settle.DRAIN_MOST_S) // 10):
        assert await here.intended() == both
        await here.demand(1)
        await here.beat(10)
    assert len(await here.intended()) == 1


async def test_of_two_words_the_later_is_the_truth_and_one_past_its_time_is_none(here: Theatre) -> None:
    await here.begin(Replicas(min=1, max=2, up_after_ms=0, down_after_ms=0))
    await here.demand(8, sequence=7)
    await here.demand(0, sequence=6)
    assert (await here.now()).wanted == 2
    await here.beat(STANDS_MS // 1_000 - 1)
    assert (await here.now()).wanted == 2
    await here.beat(1)
    assert (await here.now()).wanted == 1, "the gateway fell silent"
    await here.demand(8, late_s=STANDS_MS / 1_000)
    assert (await here.now()).wanted == 1, "it waited too long on its way"


async def test_demand_for_what_is_not_known_changes_nothing_and_is_counted(here: Theatre) -> None:
    await here.begin()
    before = METRICS.value(handlers.UNKNOWN)
    await here.demand(8, endpoint=test_id("endpoint", "nobody's"))
    async with here.store.transaction() as tx:
        assert await tx.value("SELECT count(*) FROM demand") == 0
    assert METRICS.value(handlers.UNKNOWN) == before + 1
    await here.demand(0, idle_ms=1_000, sequence=9)
    await here.demand(0, idle_ms=1_000, sequence=8)
    assert METRICS.value(handlers.UNKNOWN) == before + 1, "an old word is not an unknown endpoint"


async def test_words_of_long_ago_are_forgotten(here: Theatre) -> None:
    await here.begin()
    await here.demand(0, idle_ms=1_000)
    for seconds, kept in ((demands.KEPT_S, 1), (STANDS_MS // 1_000 + 1, 0)):
        here.clock.move(seconds)
        async with here.store.transaction() as tx:
            await demands.forget(tx, here.clock.now(), 10)
            assert await tx.value("SELECT count(*) FROM demand") == kept


@pytest.mark.slow
async def test_what_a_gateway_tells_on_its_stream_wakes_an_endpoint(
    nats_server: NatsServer, postgres: PostgresServer, tmp_path: Path
) -> None:
    site = await Site.open(tmp_path, nats_server.url, postgres.dsn("placement"))
    try:
        node = await site.node("n1")
        await node_is(site, node, "ready")
        made = await site.create(replicas=BOUNDS)
        assert (made.state, made.wanted) == ("asleep", 0)
        producer = test_id("producer", "g1")
        now = SystemClock().now()
        await tell(
            site.bus,
            DemandChanged(
                **{**envelope(producer), "occurred_at": now},
                producer=producer,
                sequence=(1 << 32) + 1,
                stands_ms=STANDS_MS,
                demands=[Demand(endpoint_id=made.id, queued=1, waking=True)],
            ),
        )

        async def placed() -> Any:
            return (await site.running(node))["n1"]

        [workload] = await eventually(placed)
        await node.ready(workload)

        async def routed() -> bool:
            route = await site.route(made.id)
            return route is not None and bool(route.replicas)

        await eventually(routed)
        assert (await state_of(site)).wanted == 1
        told = await eventually(lambda: site.told(EndpointChanged))
        assert [(fact.state, fact.wanted) for fact in told[:2]] == [("asleep", 0), ("starting", 1)]
    finally:
        await site.close()
