"""The agent's hold of a server against a double of a BMC: each step of a lease, its evidence, its login."""

import asyncio
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from node_agent.doubles.redfish_pages import Fault
from node_agent.servers import ServerFault
from node_agent.servers.bmc import Bmc
from node_agent.servers.here import is_here

from tests.adapters.bare_metal import (
    ADDRESS,
    PASSWORD,
    QUICK,
    USER,
    Bare,
    double,
    image_ran,
    passed,
)
from tests.domain.leased import leased

pytestmark = pytest.mark.slow

IMAGE, ERASE = "https://images.example/lease.iso", "https://images.example/erase.iso"


def erases_by_image(
    folder: Path, serials: list[str]
) -> tuple[dict[str, Any], Callable[[str, str | None], None]]:
    """Return a hold with an erase image, and what that image does once it is booted."""
    folder.mkdir()
    runs = iter(range(1, 100))
    hold: dict[str, Any] = {"erase_image": ERASE, "report_url": f"{folder.as_uri()}/{{system}}.json"}

    def booted(system: str, image: str | None) -> None:
        if image == ERASE:
            image_ran(folder, system, serials, next(runs))

    return hold, booted


async def test_a_lease_goes_through_and_its_evidence_names_each_drive_and_its_log(
    tmp_path: Path,
) -> None:
    with double() as bmc:
        bare = Bare(tmp_path, bmc.url, lease_image=IMAGE)
        async with bare.agent() as agent:
            await bare.through(agent)
            assert not agent.held
        assert bare.told.verbs() == ["started", "ready", "stopped", "recorded", "recorded"]
        assert bare.told.facts[1].address == ADDRESS  # type: ignore[attr-defined]
        erased, attested = bare.recorded("erased"), bare.recorded("attested")
        assert (erased.verdict, attested.verdict) == ("pass", "pass")
        assert (erased.quality, attested.quality) == ("rehearsed", "rehearsed")
        sanitized = "pass: BlockErase through Drive.SecureErase (log {}-{})"
        assert erased.evidence == {
            "drives": 2,
            "bmc_reset": "started at start 1",
            "memory": "power off",
            "report": "none asked for",
            "drive NVME-1": sanitized.format(1, "NVME-1"),
            "drive NVME-2": sanitized.format(2, "NVME-2"),
        }
        assert attested.evidence["firmware BIOS"] == "1.2.0"
        assert (attested.evidence["secure_boot"], attested.evidence["checks"]) == ("on", 1)
        assert bmc.state.booted == [IMAGE]
        assert (bmc.state.power, bmc.state.media, bmc.state.sessions) == ("Off", None, set())


async def test_without_an_image_the_server_boots_from_the_network(tmp_path: Path) -> None:
    with double() as bmc:
        await Bare(tmp_path, bmc.url).server().hand_over()
        assert (bmc.state.boot, bmc.state.booted, bmc.state.power) == ("Pxe", [None], "On")


async def test_an_agent_does_not_hand_over_the_server_that_it_runs_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dmi = tmp_path / "product_uuid"
    own = uuid.uuid4()
    dmi.write_text(f"{str(own).upper()}\n")
    assert is_here(str(own), dmi)
    assert is_here(str(uuid.UUID(bytes_le=own.bytes)), dmi)
    assert not is_here(str(uuid.uuid4()), dmi)
    assert not is_here("", dmi)
    assert not is_here(str(own), tmp_path / "nowhere")
    monkeypatch.setattr("node_agent.servers.redfish.is_here", lambda system: is_here(system, dmi))
    with double(system=str(own), power="On") as bmc:
        with pytest.raises(ServerFault, match="runs on the server itself"):
            await Bare(tmp_path / "agent", bmc.url).server().hand_over()
        assert bmc.state.power == "On"


async def test_a_step_begun_anew_does_no_harm(tmp_path: Path) -> None:
    with double() as bmc:
        bare = Bare(tmp_path, bmc.url, lease_image=IMAGE)
        for _ in range(2):
            assert (await bare.server().hand_over()).address == ADDRESS
        for _ in range(2):
            await bare.server().take_back()
            assert (bmc.state.power, bmc.state.media) == ("Off", None)
        for _ in range(2):
            assert (await bare.server().erase()).verdict == "pass"
        assert bmc.state.booted == [IMAGE, IMAGE]
        assert bmc.state.power == "Off"


async def test_drives_that_the_bmc_cannot_erase_are_the_erase_image_s_and_its_report_counts(
    tmp_path: Path,
) -> None:
    with double(erasable=False) as bmc:
        hold, booted = erases_by_image(tmp_path / "reports", ["nvme-1", "nvme-2"])
        bmc.on_boot = lambda image: booted(bmc.state.system, image)
        found = await Bare(tmp_path / "agent", bmc.url, **hold).server().erase()
        assert found.verdict == "pass"
        assert found.seen["report"] == "run-1"
        assert found.seen["memory"] == "memory, gpu"
        assert found.seen["drive nvme-2"] == "pass: nvme sanitize (block erase) (log sanitize-1)"
        assert (bmc.state.power, bmc.state.media) == ("Off", None)


async def test_a_report_that_stood_there_before_the_image_was_booted_shows_nothing(
    tmp_path: Path,
) -> None:
    with double(erasable=False) as bmc:
        hold, _ = erases_by_image(tmp_path / "reports", [])
        image_ran(tmp_path / "reports", bmc.state.system, ["NVME-1", "NVME-2"], 1)
        found = await Bare(tmp_path / "agent", bmc.url, **hold).server().erase()
        assert (found.verdict, found.seen["report"]) == ("inconclusive", "none within 1 s")


OTHERS = {
    "report_id": "x",
    "system": "other",
    "drives": [
        {"serial": one, "method": "m", "log_id": "1", "verdict": "pass"} for one in ("NVME-1", "NVME-2")
    ],
}


@pytest.mark.parametrize("left", ["", "{", '{"report_id": "x"}', json.dumps(OTHERS)])
async def test_a_report_that_is_broken_or_of_another_system_shows_nothing(
    tmp_path: Path, left: str
) -> None:
    with double(erasable=False) as bmc:
        hold, _ = erases_by_image(tmp_path / "reports", [])
        there = tmp_path / "reports" / f"{bmc.state.system}.json"
        bmc.on_boot = lambda _image: there.write_text(left)  # type: ignore[assignment]
        found = await Bare(tmp_path / "agent", bmc.url, **hold).server().erase()
        assert found.verdict == "inconclusive"
        assert "nothing shows" in found.method


async def test_a_yes_to_an_erase_without_a_task_shows_nothing(tmp_path: Path) -> None:
    with double() as bmc:
        bmc.state.faults = [Fault("ignored", "SecureErase")]
        found = await Bare(tmp_path, bmc.url).server().erase()
        assert found.verdict == "inconclusive"
        assert found.method == "nothing shows that drive NVME-1, NVME-2 was erased"


async def test_a_server_with_other_firmware_is_not_handed_over(tmp_path: Path) -> None:
    with double(firmware={"BIOS": "1.1.0", "NIC": "22.41"}) as bmc:
        with pytest.raises(ServerFault, match=r"BIOS: found 1\.1\.0, expected 1\.2\.0"):
            await Bare(tmp_path, bmc.url).server().hand_over()
        assert (bmc.state.power, bmc.state.users) == ("Off", {USER: PASSWORD})


async def test_a_drive_that_says_its_erase_failed_fails_the_erasure(tmp_path: Path) -> None:
    with double(drives={"NVME-1": "OK", "NVME-2": "Critical"}) as bmc:
        found = await Bare(tmp_path, bmc.url).server().erase()
        assert (found.verdict, found.method) == ("fail", "not erased: drive NVME-2")
        assert "Exception, Critical" in str(found.seen["drive NVME-2"])


@pytest.mark.parametrize("tells", [True, False])
async def test_a_reset_of_the_bmc_that_does_not_happen_is_no_reset(tmp_path: Path, tells: bool) -> None:
    with double(tells_reset=tells) as bmc:
        bare = Bare(tmp_path, bmc.url, msgspec.structs.replace(QUICK, bmc_away_s=0.5))
        assert (await bare.server().erase()).verdict == "pass"
        bmc.state.faults = [Fault("ignored", "Manager.Reset")]
        found = await bare.server().erase()
        assert (found.verdict, found.method) == ("inconclusive", "nothing shows that the BMC was reset")


async def test_a_bmc_that_starts_anew_before_it_answers_is_asked_once(tmp_path: Path) -> None:
    with double() as bmc:
        bmc.state.faults = [Fault("dropped", "Manager.Reset")]
        found = await Bare(tmp_path, bmc.url).server().erase()
        assert (found.verdict, bmc.state.resets) == ("pass", 1)


async def test_an_account_that_a_tenant_left_on_the_bmc_is_named_and_not_attested(
    tmp_path: Path,
) -> None:
    with double() as bmc:
        bare = Bare(tmp_path, bmc.url)
        assert (await bare.server().attest([passed()])).verdict == "pass"
        bmc.state.users["ghost"] = "of a tenant"
        found = await bare.server().attest([passed()])
        assert (found.verdict, found.method) == ("fail", "the BMC has an account ghost: remove it")
        assert found.seen["accounts"] == "ghost, mesh"


async def test_an_agent_that_is_stopped_does_not_wait_for_a_bmc_that_hangs(tmp_path: Path) -> None:
    with double() as bmc:
        bmc.state.faults = [Fault("hangs", "Systems", seconds=1.8)]
        async with asyncio.timeout(1.0), Bare(tmp_path, bmc.url).agent() as agent:
            agent.wish([leased()])
            await asyncio.sleep(0.2)


async def test_what_nobody_waits_for_any_more_is_not_begun_behind_an_exchange_that_hangs(
    tmp_path: Path,
) -> None:
    with double() as bmc:
        line = Bare(tmp_path, bmc.url).server().line
        bmc.state.faults = [Fault("hangs", "Systems", times=1, seconds=0.5)]
        slow = asyncio.create_task(line.ask("power", Bmc.power))
        await asyncio.sleep(0.1)
        given_up = asyncio.create_task(line.ask("power", lambda bmc: bmc.reset("On")))
        await asyncio.sleep(0.1)
        given_up.cancel()
        assert await slow == "Off"
        assert await line.ask("power", Bmc.power) == "Off"
        assert not any("Reset" in one for one in bmc.state.asked)


QUICKEST = msgspec.structs.replace(
    QUICK, request_s=0.3, exchange_s=1.5, tries=2, graceful_s=0.2, forced_s=0.2, on_s=0.2
)
SAID = {
    "busy": "too busy or broken, 2 tries",
    "refused": "refuses the agent's login",
    "hangs": "does not answer, 2 tries",
    "ignored": "does not offer it",
}


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize("step", ["hold", "", "erase", "attest"])
async def test_a_bmc_that_fails_in_a_step_ends_it_with_a_reason_and_nothing_passes(
    tmp_path: Path, step: str, kind: str
) -> None:
    with double() as bmc:
        bare = Bare(tmp_path, bmc.url, QUICKEST)

        def before(now: str) -> None:
            fault = Fault(kind, "/Systems" if kind == "ignored" else "", seconds=0.5)  # type: ignore[arg-type]
            bmc.state.faults = [fault] if now == step else []

        async with bare.agent() as agent:
            await bare.through(agent, before=before)
        verbs = bare.told.verbs()
        if step in {"hold", ""}:
            (failed,) = (
                one for one, verb in zip(bare.told.facts, verbs, strict=True) if verb == "failed"
            )
            assert SAID[kind] in failed.reason  # type: ignore[attr-defined]
            assert failed.reason.startswith("hand over: " if step else "take back: ")  # type: ignore[attr-defined]
            assert bare.recorded("erased").verdict == bare.recorded("attested").verdict == "pass"
        else:
            last = bare.told.facts[-1]
            assert last.verdict == "fail"  # type: ignore[attr-defined]
            assert SAID[kind] in last.method  # type: ignore[attr-defined]
