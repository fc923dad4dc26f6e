"""A wish that cannot be acted on now, as the disk is full, is acted on once it can be."""

import asyncio

import msgspec
import pytest
from mesh_contracts import wire
from mesh_contracts.placement import Intent
from meshkit.bucket import Entry
from meshkit.bus import Bus
from meshkit.declare import declare
from meshkit.testing import test_id
from node_agent.wishes import Wishes

from tests.adapters.engines import until

pytestmark = pytest.mark.slow

NODE = test_id("node", "wishing")


async def wish(bus: Bus, check: int) -> None:
    value = msgspec.Raw(wire.encode(Intent(node_id=NODE, check=check)))
    entry = Entry(epoch=1, generation=check, value=value)
    await bus.store(f"$KV.intents.{NODE}", wire.encode(entry))


async def test_a_wish_that_failed_is_tried_again_and_one_that_was_acted_on_is_not(bus: Bus) -> None:
    await declare(bus)
    acted: list[int] = []
    full = [OSError("no space left on device")] * 2

    def then(intent: Intent) -> None:
        if full:
            raise full.pop()
        acted.append(intent.check)

    wishes = Wishes(bus, NODE, then)
    running = asyncio.create_task(wishes.run())
    try:
        await wish(bus, 1)
        await until(lambda: acted == [1])
        await wish(bus, 2)
        await until(lambda: acted == [1, 2])
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
