"""Every principal against every subject, stream and bucket of a closed bus."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import nats.errors
import pytest
from mesh_contracts import rights
from meshkit import usertoken

from tests.adapters.ownership import (
    AGENT_FACTS,
    BUCKETS,
    CONSUMERS,
    NODE,
    OTHER_NODE,
    SERVICES,
    SITE,
    STREAMS,
    may_hear,
    may_publish,
)
from tests.closed_bus import Caller, ClosedBus, answered_bus, closed_bus

OWNERS = ("identity", "placement", "agent", "gateway", "metering", "carbon")
NODES = ("node", "other node", "joining node")
PRINCIPALS = (*SERVICES, "observer", *NODES)

STREAM_CALLS = (
    *("CREATE", "UPDATE", "INFO", "PURGE", "DELETE", "SNAPSHOT", "RESTORE", "MSG.GET", "MSG.DELETE"),
    *("LEADER.STEPDOWN", "PEER.REMOVE"),
)
CONSUMER_CALLS = (
    *(
        "INFO",
        "MSG.NEXT",
        "DELETE",
        "PAUSE",
        "RESET",
        "UNPIN",
        "LEADER.STEPDOWN",
        "CREATE",
        "DURABLE.CREATE",
    ),
)


def to_publish() -> Iterator[str]:
    """Yield the universe: each subject that somebody might wish to publish on."""
    for owner in OWNERS:
        yield from (f"{owner}.thing.happened.{SITE}.00.key", f"doorbell.{owner}", owner)
        yield from (f"ask.{owner}.thing.do.{SITE}", f"event.{owner}.thing.happened.{SITE}.00.key")
    for node in (NODE, OTHER_NODE):
        yield from (f"{kind}.{SITE}.00.{node}" for kind in AGENT_FACTS)
        yield from (f"agent.node.joined.de-fra-1.00.{node}", f"agent.node.invented.{SITE}.00.{node}")
        yield from (f"sample.agent.{noun}.{SITE}.{node}" for noun in ("heartbeat", "power", "invented"))
        yield from (f"intent.{node}", f"_INBOX_node.{node}.reply")
    yield from (f"ask.identity.node.enrol.{SITE}", f"ask.any.dead-letter.list.{SITE}", "intent._beat")
    for stream in (*STREAMS, *(f"KV_{bucket}" for bucket in BUCKETS)):
        yield from (f"$JS.API.STREAM.{call}.{stream}" for call in STREAM_CALLS)
        yield from (f"$JS.API.CONSUMER.{call}.{stream}" for call in ("CREATE", "NAMES", "LIST"))
        yield from (f"$JS.API.DIRECT.GET.{stream}", f"$JS.API.CONSUMER.CREATE.{stream}.mine")
        yield f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.mine"
    for stream in STREAMS:
        yield f"$JS.API.CONSUMER.CREATE.{stream}.mine.{stream.lower()}.>"
        yield f"$JS.API.DIRECT.GET.{stream}.{stream.lower()}.thing.happened.{SITE}.00.key"
    for stream, consumer in CONSUMERS:
        yield from (f"$JS.API.CONSUMER.{call}.{stream}.{consumer}" for call in CONSUMER_CALLS)
        yield f"$JS.ACK.{stream}.{consumer}.1.1.1.1.0"
    for bucket in BUCKETS:
        for key in ("key", "_beat", NODE, OTHER_NODE):
            yield from (f"$KV.{bucket}.{key}", f"$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{key}")
        yield f"$JS.API.CONSUMER.CREATE.KV_{bucket}.mine.$KV.{bucket}.>"
        yield f"$JS.FC.KV_{bucket}.mine.1"
    yield from (f"_INBOX_{user}.reply" for user in (*SERVICES, "admin", "observer"))
    yield from (
        "$JS.API.INFO",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.LIST",
        "$JS.API.META.LEADER.STEPDOWN",
    )
    yield from ("$JS.API.ACCOUNT.PURGE.MESH", "$JS.API.SERVER.REMOVE", "$SYS.REQ.USER.AUTH")
    yield from (
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.ACCOUNT.PING",
        "$SYS.REQ.SERVER.X.RELOAD",
        "$SYS._INBOX.server.reply",
    )
    yield from (
        "_R_.reply",
        "$SRV.PING",
        "$SRV.INFO.placement",
        "$SRV.STATS.metering.instance",
        "anything",
    )


def to_hear(inboxes: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (name, subject) of each subject that somebody might wish to hear."""
    named = [">", "*", "*.>", "_INBOX.>", "_R_.>", "$SYS.>", "$JS.>", "$JS.API.>", "$KV.>", "event.>"]
    named += [
        "$SYS.REQ.USER.AUTH",
        "$SRV.>",
        "$SRV.*",
        "$SRV.PING.*",
        "$SRV.PING.>",
        "$SRV.PING",
        "sample.>",
        "intent.>",
        "intent._beat",
        "ask.>",
    ]
    named += [f"ask.identity.node.enrol.{SITE}"]
    for owner in OWNERS:
        named += [f"{owner}.>", f"{owner}.thing.happened.{SITE}.00.key", f"doorbell.{owner}"]
        named += [f"ask.{owner}.>", f"ask.{owner}.thing.do.{SITE}"]
        named += [f"event.{owner}.thing.happened.{SITE}.00.key"]
        named += [f"$SRV.INFO.{owner}", f"$SRV.STATS.{owner}.instance"]
    for user in (*SERVICES, "admin", "observer"):
        named += [f"_INBOX_{user}.>", f"_INBOX_{user}.reply"]
        named += [f"$SRV.INFO.{user}", f"$SRV.STATS.{user}.instance"]
    named += [
        "sample.agent.*",
        "sample.agent.>",
        "sample.*.>",
        "ask.*",
        "intent.*",
        "doorbell.*",
        "doorbell.>",
    ]
    named += [f"$KV.{bucket}.>" for bucket in BUCKETS] + [
        f"$JS.API.STREAM.INFO.{name}" for name in STREAMS
    ]
    named += [f"intent.{node}" for node in (NODE, OTHER_NODE)]
    named += [f"sample.agent.{noun}.{SITE}.*" for noun in ("heartbeat", "power", "invented")]
    for subject in dict.fromkeys(named):
        yield subject, subject
    for who, inbox in inboxes.items():
        yield f"_INBOX of {who}", f"{inbox}.>"


@pytest.fixture
async def bus() -> AsyncIterator[ClosedBus]:
    async with answered_bus() as bus:
        yield bus


async def enter(stack: AsyncExitStack, bus: ClosedBus, who: str) -> tuple[Caller, str]:
    """Connect as a principal; return the connection and its inbox prefix."""
    if who not in NODES:
        return await stack.enter_async_context(bus.caller(who)), rights.inbox_of(who)
    seed = usertoken.new_seed("user")
    public = usertoken.public_key(seed)
    token = bus.join_token if who == "joining node" else None
    if token is None:
        bus.nodes[public] = NODE if who == "node" else OTHER_NODE
    inbox = rights.node_inbox_of(public)
    return await stack.enter_async_context(bus.caller(seed=seed, inbox=inbox, token=token)), inbox


async def test_every_principal_may_do_what_it_owns_and_nothing_else(bus: ClosedBus) -> None:
    async with AsyncExitStack() as stack:
        entered = {who: await enter(stack, bus, who) for who in PRINCIPALS}
        universe = list(dict.fromkeys(to_publish()))
        heard = dict(to_hear({who: inbox for who, (_, inbox) in entered.items() if who in NODES}))
        for who in PRINCIPALS:
            unknown = may_publish(who) - set(universe) | may_hear(who) - set(heard)
            assert not unknown, f"{who} may do what is never tried: {unknown}"
        hears = {who: await heard_by(caller, heard) for who, (caller, _) in entered.items()}
        publishes = {who: await published_by(caller, universe) for who, (caller, _) in entered.items()}
    for who in PRINCIPALS:
        assert hears[who] == may_hear(who), who
        assert publishes[who] == may_publish(who), who
    assert len(PRINCIPALS) * (len(universe) + len(heard)) > 4_000


async def heard_by(caller: Caller, heard: dict[str, str]) -> set[str]:
    """Return the names of the subjects that the caller could subscribe to."""
    for subject in heard.values():
        await caller.client.subscribe(subject, cb=ignore)
    await caller.settle()
    refused = caller.denied("subscription")
    return {name for name, subject in heard.items() if subject.lower() not in refused}


async def published_by(caller: Caller, universe: list[str]) -> set[str]:
    """Return the subjects that the caller could publish on."""
    for subject in universe:
        await caller.client.publish(subject, b"")
    await caller.settle()
    refused = caller.denied("publish")
    return {subject for subject in universe if subject.lower() not in refused}


async def enrol(message: Any) -> None:
    """Answer as identity does, in a word."""
    await message.respond(b"enrolled")


async def ignore(_: Any) -> None:
    """Hear, and do nothing."""


async def test_a_stranger_is_refused_at_the_door(bus: ClosedBus) -> None:
    seed = usertoken.new_seed("user")
    stranger: list[dict[str, str]] = [
        {},
        {"seed": seed},
        {"seed": seed, "token": "guessed"},
        {"token": bus.join_token},
    ]
    for shown in stranger:
        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            async with bus.caller(inbox="_INBOX_stranger", **shown):
                pass


@pytest.mark.slow
async def test_a_stranger_waits_in_vain_while_identity_is_away() -> None:
    async with closed_bus() as bus:
        with pytest.raises(nats.errors.Error):  # only a round trip shows who is in
            async with bus.node(NODE) as stranger:
                await stranger.client.flush(timeout=5)
        async with bus.caller("placement") as placement:
            await placement.settle()


async def test_a_node_joins_then_tells_hears_and_reads_only_its_own(bus: ClosedBus) -> None:
    async with bus.caller("placement") as placement, bus.caller("identity") as identity:
        beats: asyncio.Queue[Any] = asyncio.Queue()
        await placement.client.subscribe(f"sample.agent.heartbeat.{SITE}.*", cb=beats.put)
        await identity.client.subscribe("ask.identity.>", cb=enrol)
        await placement.settle()
        await identity.settle()
        async with bus.node(token=bus.join_token) as joining:
            answer = await joining.client.request(f"ask.identity.node.enrol.{SITE}", b"", timeout=5)
            assert answer.data == b"enrolled"
        await placement.client.request(f"$KV.intents.{OTHER_NODE}", b"not yours", timeout=5)
        async with bus.node(NODE) as node:
            intents: asyncio.Queue[Any] = asyncio.Queue()
            await node.client.subscribe(f"intent.{NODE}", cb=intents.put)
            await node.settle()
            kept = await node.client.request(f"agent.node.joined.{SITE}.00.{NODE}", b"{}", timeout=5)
            assert json.loads(kept.data) == {"stream": "AGENT", "seq": 1}
            await node.client.publish(f"sample.agent.heartbeat.{SITE}.{NODE}", b"beat")
            assert (await asyncio.wait_for(beats.get(), 5)).data == b"beat"
            await placement.client.request(f"$KV.intents.{NODE}", b"run this", timeout=5)
            assert (await asyncio.wait_for(intents.get(), 5)).data == b"run this"
            read = await node.client.request(
                f"$JS.API.DIRECT.GET.KV_intents.$KV.intents.{NODE}", b"", timeout=5
            )
            assert read.data == b"run this"
            with pytest.raises(nats.errors.TimeoutError):
                await node.client.request(
                    f"$JS.API.DIRECT.GET.KV_intents.$KV.intents.{OTHER_NODE}", b"", timeout=0.3
                )
            assert len(node.denied("publish")) == 1


async def test_an_observer_hears_facts_as_they_are_told(bus: ClosedBus) -> None:
    async with bus.caller("observer") as observer, bus.caller("placement") as placement:
        heard: asyncio.Queue[Any] = asyncio.Queue()
        for owner in ("placement", "agent"):
            await observer.client.subscribe(f"{owner}.>", cb=heard.put)
        await observer.settle()
        await placement.client.publish(f"placement.node.cordoned.{SITE}.00.key", b"from a service")
        assert (await asyncio.wait_for(heard.get(), 5)).data == b"from a service"
        async with bus.node(NODE) as node:
            await node.client.publish(f"agent.node.joined.{SITE}.00.{NODE}", b"from a node")
            assert (await asyncio.wait_for(heard.get(), 5)).data == b"from a node"


async def test_a_nodes_right_ends_with_its_life(bus: ClosedBus) -> None:
    bus.life_s = 1
    async with bus.node(NODE) as node:
        closed = asyncio.Event()
        node.client._closed_cb = async_set(closed)
        await asyncio.wait_for(closed.wait(), 10)
        assert node.client.is_closed


def async_set(event: asyncio.Event) -> Any:
    async def set_it() -> None:
        event.set()

    return set_it
