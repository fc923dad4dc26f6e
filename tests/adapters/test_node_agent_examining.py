"""What an erase image found of accelerators counts as long as nobody had the server since; nothing boots it unasked."""

import asyncio
from pathlib import Path

import pytest
from mesh_contracts.node import HealthChanged
from node_agent.examining import Examining
from node_agent.health import Health
from node_agent.leases import Leases
from node_agent.probing import GaveWay

from tests.adapters.bare_metal import ADDRESS, Bare, double, looked_at
from tests.adapters.engines import until
from tests.adapters.imaged import GPUS, Imaged, declared, wished
from tests.domain.leased import leased

pytestmark = pytest.mark.slow


async def test_nothing_is_known_and_nothing_booted_until_a_check_is_wished_for(imaged: Imaged) -> None:
    found = await imaged.health.first(lambda: ())
    assert {one.verdict for one in found} == {"inconclusive"}
    assert "mesh node return" in str(found[0].action)
    assert (imaged.runs, imaged.bmc.state.booted) == (0, [])
    told = await wished(imaged, 1)
    assert (told.verdict, [one.device_id for one in told.checks]) == ("pass", list(GPUS))
    assert not any(one.rehearsal for one in told.checks)
    assert (imaged.runs, imaged.bmc.state.power, imaged.bmc.state.media) == (1, "Off", None)
    # An agent that starts again knows it still, and boots nothing for it.
    again = Health(
        imaged.devices, imaged.bare.folder, probing=Examining(imaged.devices, imaged.bare.server())
    )
    assert [one.verdict for one in await again.first(lambda: ())] == ["pass", "pass"]
    assert imaged.runs == 1


async def test_a_gpu_that_fails_there_is_told_and_has_to_pass_twice_there(imaged: Imaged) -> None:
    imaged.found = [looked_at("GPU-a"), looked_at("GPU-b", "fail")]
    told = await wished(imaged, 1)
    assert (told.verdict, told.checks[1].detail) == ("fail", "products: fail")
    imaged.found = [looked_at(one) for one in GPUS]
    told = await wished(imaged, 2)
    assert (told.verdict, imaged.runs) == ("pass", 3)


async def test_an_image_that_leaves_nothing_shows_nothing_and_says_where_to_look(
    imaged: Imaged,
) -> None:
    await wished(imaged, 1)
    imaged.leaves = False
    told = await wished(imaged, 2)
    assert told.verdict == "inconclusive"
    assert "the erase image left no report: none within 1 s" in told.checks[0].detail
    # Nor does what an earlier run had found count any more.
    assert imaged.verdicts() == ["inconclusive", "inconclusive"]


async def test_a_lease_forgets_what_was_known_and_its_end_measures_it_anew(imaged: Imaged) -> None:
    await wished(imaged, 1)
    seen: dict[str, list[str]] = {}
    agent = Leases(imaged.bare.folder, imaged.bare.server(), imaged.bare.told.teller(), imaged.health)
    running = asyncio.create_task(agent.run())
    try:
        await imaged.bare.through(agent, before=lambda step: seen.setdefault(step, imaged.verdicts()))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    unknown = ["inconclusive", "inconclusive"]
    assert seen == {"hold": ["pass", "pass"], "": unknown, "erase": unknown, "attest": ["pass", "pass"]}
    erased, attested = imaged.bare.recorded("erased"), imaged.bare.recorded("attested")
    assert [(one.verdict, one.quality) for one in (erased, attested)] == [("pass", "measured")] * 2
    assert attested.evidence["checks"] == 2
    assert imaged.runs == 2


async def test_a_server_whose_gpu_is_gone_at_the_end_of_a_lease_is_not_attested(imaged: Imaged) -> None:
    await wished(imaged, 1)
    imaged.leaves = False
    assert (await imaged.bare.server().erase()).verdict == "pass"
    # What was found before the lease is not what is known after it.
    assert imaged.verdicts() == ["inconclusive", "inconclusive"]
    imaged.leaves, imaged.found = True, [looked_at("GPU-a")]
    assert (await imaged.bare.server().erase()).verdict == "pass"
    found = await imaged.bare.server().attest(await imaged.health.check("standard"))
    assert (found.verdict, found.method) == ("fail", "device of GPU-b")


async def test_who_is_to_have_the_server_ends_the_look_at_it(imaged: Imaged) -> None:
    imaged.leaves = False
    look = asyncio.create_task(imaged.checks.check(imaged.devices.listed(), "quick", anew=True))
    await until(lambda: imaged.runs, 10.0)
    assert imaged.verdicts() == ["warn", "warn"]
    await imaged.checks.give_way(GPUS)
    with pytest.raises(GaveWay):
        await look
    at = await imaged.server.hand_over()
    assert (at.address, imaged.bmc.state.booted[-1], imaged.bmc.state.power) == (ADDRESS, None, "On")
    await asyncio.sleep(1.5)  # Longer than a report is waited for.
    assert (imaged.runs, imaged.bmc.state.power) == (1, "On")
    assert imaged.verdicts() == ["inconclusive", "inconclusive"]


async def test_a_server_that_is_still_coming_on_is_switched_off_before_it_is_handed_over(
    imaged: Imaged,
) -> None:
    """What the BMC shows is late: it was switched on, and shows that it is off."""
    imaged.leaves = False
    power = imaged.server._power
    shown = power._state
    late_until = 0.0

    async def late() -> str:
        return "Off" if asyncio.get_running_loop().time() < late_until else await shown()

    power._state = late  # type: ignore[method-assign]
    look = asyncio.create_task(imaged.checks.check(imaged.devices.listed(), "quick", anew=True))

    def on_boot(image: str | None) -> None:
        nonlocal late_until
        late_until = loop.time() + 0.5
        imaged.booted(image)

    loop = asyncio.get_running_loop()
    imaged.bmc.on_boot = on_boot
    await until(lambda: imaged.runs, 10.0)
    await imaged.checks.give_way(GPUS)
    with pytest.raises(GaveWay):
        await look
    await imaged.server.hand_over()
    # The tenant's own start is one of its own, and no longer the image's.
    assert imaged.bmc.state.booted == ["https://images.example/erase.iso", None]


async def test_what_placement_wishes_for_by_itself_boots_nothing(imaged: Imaged) -> None:
    told = await wished(imaged, 1, asked=False)
    assert (told.verdict, imaged.runs) == ("inconclusive", 0)
    assert (await wished(imaged, 2)).verdict == "pass"
    told = await wished(imaged, 3, asked=False)
    assert (told.verdict, imaged.runs) == ("pass", 1)


async def test_an_agent_that_starts_amid_a_look_takes_nothing_out_and_looks_again(
    imaged: Imaged,
) -> None:
    imaged.leaves = False
    look = asyncio.create_task(imaged.checks.check(imaged.devices.listed(), "quick", anew=True))
    await until(lambda: imaged.runs, 10.0)
    look.cancel()
    await asyncio.gather(look, return_exceptions=True)
    again = imaged.again()
    assert [one.verdict for one in await again.health.first(lambda: ())] == ["warn", "warn"]
    again.leaves = True
    assert (await wished(again, 1)).verdict == "pass"


async def test_between_its_return_and_its_erasure_nobody_looks_at_a_server(imaged: Imaged) -> None:
    agent = Leases(imaged.bare.folder, imaged.server, imaged.bare.told.teller(), imaged.health)

    def used() -> set[str]:
        return set(GPUS) if agent.held else set()

    first = asyncio.create_task(imaged.health.first(used))
    running = [
        asyncio.create_task(agent.run()),
        asyncio.create_task(imaged.health.run(first, imaged.bare.told.teller(), used)),
    ]
    try:
        agent.wish([leased("hold")])
        await until(lambda: "ready" in imaged.bare.told.verbs(), 20.0)
        imaged.health.wish(1, asked=1)
        agent.wish([])
        await until(lambda: "stopped" in imaged.bare.told.verbs(), 20.0)
        await asyncio.sleep(1.5)
        assert (agent.held, imaged.runs) == (True, 0)
        for number, step in enumerate(("erase", "attest"), 1):
            agent.wish([leased(step)])
            await until(lambda many=number: imaged.bare.told.verbs().count("recorded") == many, 20.0)  # type: ignore[misc]
            assert imaged.runs == 1
        agent.wish([])
        await until(lambda: imaged.runs == 2, 20.0)
        await until(lambda: imaged.health.last == 1, 20.0)
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    told = [f.verdict for f in imaged.bare.told.facts if isinstance(f, HealthChanged)]
    assert "fail" not in told
    assert told[-1] == "pass"
    assert told.count("inconclusive") == 1, "the first, before anybody had looked"


async def test_without_a_place_for_its_report_nobody_looks_and_that_is_said(tmp_path: Path) -> None:
    with double() as bmc:
        devices = declared(tmp_path / "agent")
        server = Bare(tmp_path / "agent", bmc.url, devices=devices).server()
        found = await Examining(devices, server).check(devices.listed(), "quick", anew=True)
        assert bmc.state.booted == []
    assert {one.verdict for one in found} == {"inconclusive"}
    assert "set AGENT_ERASE_REPORT_URL" in found[0].detail
