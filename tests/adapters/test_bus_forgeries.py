"""The known forgeries on a closed bus: what lands in another's stream is refused by the bus or by its readers."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.adapters.ownership import NODE, SITE
from tests.closed_bus import ClosedBus, answered_bus

FORGED = f"placement.lease.granted.{SITE}.00.forged"


@pytest.fixture
async def bus() -> AsyncIterator[ClosedBus]:
    async with answered_bus() as bus:
        yield bus


async def ignore(_: Any) -> None:
    """Hear, and do nothing."""


async def kept_in(bus: ClosedBus, stream: str) -> list[dict[str, Any]]:
    """Return every message of a stream, as the deploy step sees it."""
    async with bus.caller("admin") as admin:
        said = json.loads(
            (await admin.client.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout=5)).data
        )
        found = []
        for sequence in range(max(1, said["state"]["first_seq"]), said["state"]["last_seq"] + 1):
            body = json.dumps({"seq": sequence}).encode()
            answer = await admin.client.request(f"$JS.API.STREAM.MSG.GET.{stream}", body, timeout=5)
            found.append(json.loads(answer.data)["message"])
        return found


async def test_a_node_cannot_land_anything_in_anothers_stream_by_naming_it_as_its_reply(
    bus: ClosedBus,
) -> None:
    async with bus.caller("identity") as identity, bus.caller("placement") as placement:
        asked: asyncio.Queue[Any] = asyncio.Queue()

        async def answer(message: Any) -> None:
            await message.respond(b"enrolled")
            await asked.put(message)

        await identity.client.subscribe("ask.identity.>", cb=answer)
        await identity.settle()
        await placement.client.request(f"$KV.intents.{NODE}", b"{}", timeout=5)
        async with bus.node(NODE) as node:
            for subject in (
                f"agent.node.joined.{SITE}.00.{NODE}",
                f"$JS.API.DIRECT.GET.KV_intents.$KV.intents.{NODE}",
                f"sample.agent.heartbeat.{SITE}.{NODE}",
                f"ask.identity.node.enrol.{SITE}",
            ):
                await node.client.publish(subject, b"{}", reply=FORGED)
            await node.settle()
            assert node.refused == []
            await asyncio.wait_for(asked.get(), 5)
            await identity.settle()
            # The answers have all been made once an honest one has come back behind them.
            await node.client.request(
                f"$JS.API.DIRECT.GET.KV_intents.$KV.intents.{NODE}", b"", timeout=5
            )
        assert await kept_in(bus, "PLACEMENT") == []
        assert [message["subject"] for message in await kept_in(bus, "AGENT")] == [
            f"agent.node.joined.{SITE}.00.{NODE}"
        ]


async def test_an_answerer_cannot_be_made_to_tell_a_fact(bus: ClosedBus) -> None:
    async with bus.caller("inference-gateway") as gateway, bus.caller("metering") as metering:
        answered = asyncio.Event()

        async def answer(message: Any) -> None:
            await message.respond(b'{"forged": true}')
            answered.set()

        await metering.client.subscribe("ask.metering.>", cb=answer)
        await metering.settle()
        await gateway.client.publish(f"ask.metering.usage.list.{SITE}", b"{}", reply=FORGED)
        await asyncio.wait_for(answered.wait(), 5)
        await metering.settle()
        assert metering.denied("publish") == {FORGED.lower()}
        assert await kept_in(bus, "PLACEMENT") == []


@pytest.mark.parametrize("way", ["answer of a stream", "direct get", "pull", "push consumer"])
async def test_what_a_service_lands_in_anothers_stream_is_never_handled_as_its_fact(
    bus: ClosedBus, way: str
) -> None:
    # Services share an account, so the server does not stop the reply subject: the reader does.
    fact = json.dumps({"tag": "placement.lease.granted/1", "forged": True}).encode()
    async with bus.caller("identity") as identity, bus.caller("metering") as metering:
        await identity.client.request("$KV.access.forge", fact, timeout=5)
        await identity.client.request(f"identity.project.admitted.{SITE}.00.key", fact, timeout=5)
        if way == "answer of a stream":
            await identity.client.publish("$KV.access.again", fact, reply=FORGED)
        elif way == "direct get":
            await identity.client.publish(
                "$JS.API.DIRECT.GET.KV_access.$KV.access.forge", b"", reply=FORGED
            )
        elif way == "pull":
            await metering.client.publish(
                "$JS.API.CONSUMER.MSG.NEXT.IDENTITY.metering_IDENTITY_00", b'{"batch":1}', reply=FORGED
            )
        else:
            config = {"name": "mine", "filter_subject": "$KV.access.>", "deliver_subject": FORGED}
            config |= {"ack_policy": "none", "deliver_policy": "all"}
            body = json.dumps({"stream_name": "KV_access", "config": config}).encode()
            async with bus.caller("observer") as observer:
                await observer.client.subscribe(FORGED, cb=ignore)
                await observer.settle()
                subject = "$JS.API.CONSUMER.CREATE.KV_access.mine.$KV.access.>"
                await identity.client.request(subject, body, timeout=5)
                await identity.settle()
        await identity.settle()
        await metering.settle()
        landed = await landed_in(bus, "PLACEMENT")
        assert [message for message in landed if not refused_by_readers(message)] == []


async def landed_in(bus: ClosedBus, stream: str) -> list[dict[str, Any]]:
    """Return what a stream keeps once it keeps something; the server has no event for it."""
    until = time.monotonic() + 5
    while not (landed := await kept_in(bus, stream)):
        assert time.monotonic() < until, f"nothing landed in {stream}"
        await asyncio.sleep(0.02)
    return landed


def refused_by_readers(message: dict[str, Any]) -> bool:
    """Tell whether a stored message is filtered from every consumer, a copy, or no fact of ours."""
    if not message["subject"].startswith("placement."):
        return True
    headers = base64_text(message.get("hdrs", ""))
    if "Nats-Stream:" in headers or "Nats-Subject:" in headers:
        return True
    return "tag" not in json.loads(base64_text(message["data"]))


def base64_text(text: str) -> str:
    return base64.b64decode(text).decode()
