"""A look at a server that goes wrong is one look, shows nothing, and leaves nothing behind."""

import asyncio
import http.client
from typing import Any

import pytest
from node_agent import examining
from node_agent.devices import declared as declared_devices
from node_agent.doubles.redfish_pages import Fault
from node_agent.probing import GaveWay
from node_agent.servers import report

from tests.adapters.bare_metal import looked_at
from tests.adapters.imaged import GPUS, Imaged, wished

pytestmark = pytest.mark.slow


async def test_a_look_that_fails_is_one_and_leaves_the_server_off(
    imaged: Imaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: Any, **__: Any) -> None:
        raise http.client.IncompleteRead(b"{")

    class Opener:
        open = staticmethod(cut_off)

    monkeypatch.setattr(report, "_opener", lambda _: Opener)
    told = await wished(imaged, 1)
    assert (told.verdict, imaged.runs) == ("inconclusive", 0)
    assert "look at what keeps it" in told.checks[0].detail
    monkeypatch.undo()
    monkeypatch.setattr(imaged.devices, "remember", lambda _: 1 / 0)
    told = await wished(imaged, 2)
    assert (told.verdict, imaged.runs) == ("inconclusive", 1)
    assert "the look itself failed: ZeroDivisionError" in told.checks[0].detail
    assert (imaged.bmc.state.power, imaged.bmc.state.media) == ("Off", None)
    facts = len(imaged.bare.told.facts)
    await asyncio.sleep(0.5)
    assert (len(imaged.bare.told.facts), imaged.runs) == (facts, 1)


async def test_a_drive_that_the_image_did_not_erase_keeps_the_server_out(imaged: Imaged) -> None:
    imaged.bmc.state.erasable = False
    imaged.serials = ["NVME-1"]
    told = await wished(imaged, 1)
    assert told.verdict == "inconclusive"
    assert "was not erased: nothing shows that drive" in told.checks[0].detail
    assert imaged.bmc.state.power == "Off"
    imaged.serials = ["NVME-1", "NVME-2"]
    assert (await wished(imaged, 2)).verdict == "pass"


async def test_a_report_that_is_no_text_shows_nothing_and_the_erasure_goes_on(imaged: Imaged) -> None:
    place = imaged.reports / f"{imaged.bmc.state.system}.json"
    place.write_bytes(b'{"report_id": "\xff\xfe", "system": "x"}')
    imaged.leaves = False
    found = await imaged.server.erase()
    assert found.seen["report"] == "none within 1 s"


async def test_what_cannot_be_kept_of_a_look_was_not_looked_at(
    imaged: Imaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declared_devices, "keep", lambda *_: False)
    imaged.found = [looked_at("GPU-a"), looked_at("GPU-b", "fail")]
    assert (await wished(imaged, 1)).verdict == "inconclusive"
    assert not imaged.devices.looking


async def test_a_bmc_that_is_away_amid_a_look_leaves_nothing_known(
    imaged: Imaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await wished(imaged, 1)).verdict == "pass"

    def away(image: str | None) -> None:
        imaged.booted(image)
        imaged.bmc.state.faults.append(Fault("busy"))

    imaged.bmc.on_boot = away
    assert (await wished(imaged, 2)).verdict == "inconclusive"
    assert (imaged.verdicts(), imaged.devices.looking) == (["inconclusive"] * 2, False)


async def test_a_look_that_takes_too_long_is_over_before_anybody_has_the_server(
    imaged: Imaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examining, "WITHIN_S", 0.5)
    resting = asyncio.Event()
    rest = imaged.server.rest

    async def slowly() -> None:
        resting.set()
        await asyncio.sleep(0.5)
        await rest()

    monkeypatch.setattr(imaged.server, "rest", slowly)
    imaged.leaves = False
    look = asyncio.create_task(imaged.checks.check(imaged.devices.listed(), "quick", anew=True))
    await asyncio.wait_for(resting.wait(), 10.0)
    await imaged.checks.give_way(GPUS)
    with pytest.raises(GaveWay):
        await look
    await imaged.server.hand_over()
    await asyncio.sleep(1.0)
    assert imaged.bmc.state.power == "On"


async def test_a_server_that_comes_on_after_its_agent_started_again_is_switched_off_first(
    imaged: Imaged,
) -> None:
    imaged.devices.look()
    again = imaged.again()
    assert again.server._power._on_asked
    await again.server.hand_over()
    assert not again.server._power._on_asked
