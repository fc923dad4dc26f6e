"""The bus's own roads on a bus that is closed by default: what is granted works, what is not is said at once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from mesh_contracts import rights
from mesh_contracts.ask import Principal, Problem
from mesh_contracts.fact import owner_of
from mesh_contracts.identity import EnrolNode, ListOrganizations, Organizations
from mesh_contracts.streams import ASKS, BUCKETS, USERS, consumers
from mesh_contracts.units import DEFAULT_SITE
from meshkit import usertoken
from meshkit.answering import serve
from meshkit.bucket import BucketWriter, Watched
from meshkit.bus import Bus, Message
from meshkit.clock import SystemClock
from meshkit.consumer import Pull, Pulled
from meshkit.errors import PermissionsViolation
from meshkit.telemetry import METRICS
from meshkit.testing import test_id

from tests.closed_bus import ClosedBus, closed_bus
from tests.servers_nats import MESH_SECRET, settings_for

pytestmark = pytest.mark.slow

NODE = test_id("node", "n1")


@pytest.fixture
async def closed() -> AsyncIterator[ClosedBus]:
    async with closed_bus() as running:
        yield running


@asynccontextmanager
async def bus_as(
    closed: ClosedBus, user: str, *, seed: str = "", inbox: str | None = None, token: str | None = None
) -> AsyncIterator[Bus]:
    settings = settings_for(closed.server.url, closed.folder, seed or closed.seeds[user])
    bus = await Bus.connect(
        settings, user=user, clock=SystemClock(), secret=MESH_SECRET, inbox_prefix=inbox, token=token
    )
    try:
        yield bus
    finally:
        await bus.close()


def violations() -> float:
    return sum(
        METRICS.value("mesh_bus_permission_violations_total", kind=kind)
        for kind in ("publish", "subscription")
    )


@pytest.mark.parametrize("owner", sorted(USERS))
async def test_each_service_walks_all_its_roads_without_a_refusal(
    closed: ClosedBus, owner: str
) -> None:
    before = violations()

    async def answer(_ask: Any, _by: Principal) -> Organizations:
        return Organizations(items=[])

    async with bus_as(closed, USERS[owner]) as bus:
        opened: list[Any] = []
        for bucket in BUCKETS:
            if bucket.writer == owner:
                writer = BucketWriter(bus, bucket.name, 1)
                await writer.start()
                opened.append(writer)
            if owner in bucket.readers:
                watched = await Watched[Any].open(bus, bucket.name)
                assert watched.ready
                opened.append(watched)
        for spec in consumers():
            if spec.reader == owner:
                heard: asyncio.Queue[Pulled] = asyncio.Queue()
                pull = Pull(bus, spec.stream, spec.name)
                await pull.start(heard.put_nowait)
                await pull.stop()
        await bus.subscribe(f"doorbell.{owner}", lambda _: None)
        await bus.publish(f"doorbell.{owner}", b"")
        await bus.confirm("publish", f"doorbell.{owner}")
        asks = {kind: answer for kind in ASKS if owner_of(kind) == owner}
        if asks:
            served = await serve(bus, owner, DEFAULT_SITE, asks)
            await served.stop()
        await bus.store(f"{owner}.thing.happened.{DEFAULT_SITE}.00.x", b"{}")
        for each in opened:
            await each.close()
    assert violations() == before


async def test_a_publish_that_is_not_granted_fails_at_once_and_others_go_on(closed: ClosedBus) -> None:
    async with bus_as(closed, "metering") as bus:
        own = asyncio.gather(
            *(bus.store(f"metering.a.b.{DEFAULT_SITE}.00.{n}", b"{}") for n in range(50))
        )
        began = time.monotonic()
        with pytest.raises(PermissionsViolation, match="placement"):
            await bus.store(f"placement.lease.granted.{DEFAULT_SITE}.00.X", b"{}")
        assert time.monotonic() - began < 1
        assert len(await own) == 50


async def test_what_is_not_granted_to_hear_watch_pull_or_answer_is_said_at_once(
    closed: ClosedBus,
) -> None:
    async def answer(_ask: Any, _by: Principal) -> Organizations:
        return Organizations(items=[])

    async with bus_as(closed, "carbon-accounting") as bus, asyncio.timeout(4):
        with pytest.raises(PermissionsViolation):
            await bus.subscribe("ask.identity.>", lambda _: None)
        with pytest.raises(PermissionsViolation):
            await Watched[Any].open(bus, "access")
        with pytest.raises(PermissionsViolation):
            await Pull(bus, "GATEWAY", "metering_GATEWAY_00").start(lambda _: None)
        with pytest.raises(PermissionsViolation):
            await serve(bus, "identity", DEFAULT_SITE, {ListOrganizations: answer})
        with pytest.raises(PermissionsViolation):
            await bus.last("KV_access", "$KV.access.key.x")
        by = Principal(
            principal_id="x", role="admin", expires_at=datetime.now(UTC) + timedelta(seconds=60)
        )
        refused = await bus.ask(ListOrganizations(**bus.wish(by)))
        assert isinstance(refused, Problem)
        assert refused.code == "unavailable"
        # It is as good as before.
        assert await bus.store(f"carbon.a.b.{DEFAULT_SITE}.00.x", b"{}") >= 1


async def test_credentials_that_nobody_knows_are_refused_at_the_first_attempt(
    closed: ClosedBus,
) -> None:
    async with bus_as(closed, "identity") as identity:
        await closed.answer_strangers(identity.connection)
        with pytest.raises(PermissionsViolation, match="NATS_CREDENTIALS"):
            async with bus_as(closed, "stranger", seed=usertoken.new_seed("user")):
                pass


@pytest.mark.slow
async def test_where_nobody_says_who_a_node_is_it_waits_to_be_let_in(closed: ClosedBus) -> None:
    seed = usertoken.new_seed("user")
    public = usertoken.public_key(seed)
    closed.nodes[public] = NODE

    async def let_in() -> bool:
        async with bus_as(closed, "node", seed=seed, inbox=rights.node_inbox_of(public)) as node:
            return node.connected

    connecting = asyncio.create_task(let_in())
    await asyncio.sleep(2.5)
    assert not connecting.done()
    async with bus_as(closed, "identity") as identity:
        await closed.answer_strangers(identity.connection)
        assert await asyncio.wait_for(connecting, 8)


async def test_the_gateway_is_answered_and_reads_events_by_sequence(closed: ClosedBus) -> None:
    async def answer(_ask: Any, _by: Principal) -> Organizations:
        return Organizations(items=[])

    async with bus_as(closed, "identity") as identity, bus_as(closed, "inference-gateway") as gateway:
        served = await serve(identity, "identity", DEFAULT_SITE, {ListOrganizations: answer})
        by = Principal(
            principal_id="x", role="admin", expires_at=datetime.now(UTC) + timedelta(seconds=60)
        )
        assert await gateway.ask(ListOrganizations(**gateway.wish(by))) == Organizations(items=[])
        heard: asyncio.Queue[Message] = asyncio.Queue()
        await gateway.subscribe("event.>", heard.put_nowait)
        subject = f"identity.project.admitted.{DEFAULT_SITE}.00.project_x"
        await identity.store(subject, b'{"a":1}', headers={"traceparent": "t"})
        await identity.store(f"identity.node.enrolled.{DEFAULT_SITE}.00.node_x", b"not a tenant's")
        async with asyncio.timeout(5):
            told = await heard.get()
        assert (told.subject, told.data) == (f"event.{subject}", b'{"a":1}')
        sequence = int(told.headers["Nats-Sequence"])
        kept = await gateway.at("EVENTS", sequence)
        assert kept is not None
        assert (kept.subject, kept.data, kept.sequence) == (subject, b'{"a":1}', sequence)
        assert kept.headers["traceparent"] == "t"
        assert await gateway.at("EVENTS", sequence + 1) is None
        await served.stop()


@asynccontextmanager
async def joining(closed: ClosedBus) -> AsyncIterator[tuple[Bus, str]]:
    seed = usertoken.new_seed("user")
    public = usertoken.public_key(seed)
    inbox = rights.node_inbox_of(public)
    async with bus_as(closed, "node", seed=seed, inbox=inbox, token=closed.join_token) as node:
        yield node, public


async def test_a_node_joins_is_enrolled_and_then_has_its_own_subjects_alone(closed: ClosedBus) -> None:
    async def enrol(ask: Any, _by: Principal) -> Any:
        closed.nodes[ask.public_key] = NODE
        return msgspec.convert({"node_id": NODE}, EnrolNode.reply)

    async with bus_as(closed, "identity") as identity, bus_as(closed, "placement") as placement:
        await closed.answer_strangers(identity.connection)
        served = await serve(identity, "identity", DEFAULT_SITE, {EnrolNode: enrol})
        writer = BucketWriter(placement, "intents", 1)
        await writer.start()
        async with joining(closed) as (node, public):
            heard: asyncio.Queue[Message] = asyncio.Queue()
            with pytest.raises(PermissionsViolation):
                await node.subscribe(f"intent.{NODE}", heard.put_nowait)
            ask = EnrolNode(**node.wish(""), name="n1", join_token="t", public_key=public)
            enrolled: Any = await node.ask(ask)
            assert enrolled.node_id == NODE
            node.drop_token()
            await node.renew()
            await node.subscribe(f"intent.{NODE}", heard.put_nowait)
            await writer.put(NODE, b'{"x":1}')
            async with asyncio.timeout(2):
                told = await heard.get()
            read = await node.last("KV_intents", f"$KV.intents.{NODE}")
            assert read is not None
            assert read.data == told.data
            beat = await node.last("KV_intents", f"$KV.intents.{rights.BEAT}")
            assert beat is not None
            subject = f"agent.node.joined.{DEFAULT_SITE}.00.{NODE}"
            assert await node.store(subject, b"{}", msg_id="1") == 1
            with pytest.raises(PermissionsViolation):
                await node.last("KV_intents", "$KV.intents.another")
            with pytest.raises(PermissionsViolation):
                await node.store(f"agent.node.joined.{DEFAULT_SITE}.00.another", b"{}")
        await writer.close()
        await served.stop()


@pytest.mark.slow
async def test_a_node_whose_credential_ends_is_let_in_again_without_being_closed(
    closed: ClosedBus,
) -> None:
    closed.life_s = 2
    async with bus_as(closed, "identity") as identity:
        await closed.answer_strangers(identity.connection)
        seed = usertoken.new_seed("user")
        public = usertoken.public_key(seed)
        closed.nodes[public] = NODE
        inbox = rights.node_inbox_of(public)
        async with bus_as(closed, "node", seed=seed, inbox=inbox) as node:
            # Renewed in time, nothing is lost; not renewed, the server ends it and it comes back.
            await asyncio.sleep(1)
            await node.renew()
            lost = asyncio.Event()

            async def came_back() -> None:
                lost.set()

            node.on_reconnect(came_back)
            async with asyncio.timeout(8):
                await lost.wait()
                await node.wait_whole()
            assert not node.closed.is_set()
            subject = f"agent.node.joined.{DEFAULT_SITE}.00.{NODE}"
            assert await node.store(subject, b"{}") == 1


@pytest.mark.slow
async def test_a_node_that_is_no_longer_known_keeps_asking_but_not_often(closed: ClosedBus) -> None:
    async with bus_as(closed, "identity") as identity:
        await closed.answer_strangers(identity.connection)
        seed = usertoken.new_seed("user")
        public = usertoken.public_key(seed)
        closed.nodes[public] = NODE
        async with bus_as(closed, "node", seed=seed, inbox=rights.node_inbox_of(public)) as node:
            del closed.nodes[public]
            before = METRICS.value("mesh_bus_errors_total")
            renewing = asyncio.create_task(node.renew())
            await asyncio.sleep(4)
            assert METRICS.value("mesh_bus_errors_total") - before < 6
            assert not node.connected
            closed.nodes[public] = NODE
            async with asyncio.timeout(6):
                await renewing
            assert node.connected
