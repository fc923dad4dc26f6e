"""A server whose accelerators a file names: what its erase image found of them counts, as long as nobody had the server since."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from meshkit.config import load
from meshkit.errors import ConfigError
from node_agent.described import described
from node_agent.devices import NoInstance, open_devices
from node_agent.devices.declared import Declared
from node_agent.doubles.redfish import Double
from node_agent.examining import Examining, open_health
from node_agent.health import Health
from node_agent.leases import Leases
from node_agent.servers.opened import open_server
from node_agent.settings import AgentSettings

from tests.adapters.bare_metal import ADDRESS, Bare, double, image_ran, looked_at
from tests.adapters.engines import until

pytestmark = pytest.mark.slow

ERASE = "https://images.example/erase.iso"
GPUS = ("GPU-a", "GPU-b")
TOLD = {"NATS_URL": "nats://127.0.0.1:1", "AGENT_NAME": "n1", "AGENT_DEVICES": "declared"}


def declared(folder: Path, *ids: str) -> Declared:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "devices.json"
    named = [{"device_id": one, "model": "NVIDIA H200", "memory_mib": 143_771} for one in ids or GPUS]
    file.write_text(json.dumps(named))
    return Declared(file, folder, idle_w=1_000, gpu_w=700)


class Imaged:
    """A server behind a double of a BMC, with an erase image that finds what it is told to."""

    def __init__(self, folder: Path, bmc: Double) -> None:
        self.reports = folder / "reports"
        self.reports.mkdir()
        self.bmc, self.runs = bmc, 0
        self.found = [looked_at(one) for one in GPUS]
        self.leaves = True
        self.devices = declared(folder / "agent")
        url = f"{self.reports.as_uri()}/{{system}}.json"
        hold: dict[str, Any] = {"erase_image": ERASE, "report_url": url, "devices": self.devices}
        self.bare = Bare(folder / "agent", bmc.url, **hold)
        bmc.on_boot = self._booted
        self.checks = Examining(self.devices, self.bare.server())
        self.health = Health(self.devices, folder / "agent", probing=self.checks)

    def _booted(self, image: str | None) -> None:
        if image == ERASE:
            self.runs += 1
            if self.leaves:
                system = self.bmc.state.system
                image_ran(self.reports, system, ["NVME-1", "NVME-2"], self.runs, self.found)

    def verdicts(self) -> list[str]:
        return [one.verdict for one in self.devices.known()]


@pytest.fixture
def imaged(tmp_path: Path) -> Any:
    with double() as bmc:
        yield Imaged(tmp_path, bmc)


async def wished(imaged: Imaged, number: int) -> Any:
    """Wish for a check as placement does; return what was told."""
    first = asyncio.create_task(imaged.health.first(lambda: ()))
    running = asyncio.create_task(imaged.health.run(first, imaged.bare.told.teller(), lambda: ()))
    try:
        imaged.health.wish(number)

        def told() -> Any:
            facts = imaged.bare.told.facts
            return next((f for f in facts if getattr(f, "check", None) == number), None)

        return await until(told, 20.0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


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
    imaged.found = [looked_at("GPU-a")]
    assert (await imaged.bare.server().erase()).verdict == "pass"
    found = await imaged.bare.server().attest(await imaged.health.check("standard"))
    assert (found.verdict, found.method) == ("fail", "device of GPU-b")


async def test_who_is_to_have_the_server_ends_the_look_at_it(imaged: Imaged) -> None:
    imaged.leaves = False
    first = asyncio.create_task(imaged.health.first(lambda: ()))
    leased = False
    running = asyncio.create_task(
        imaged.health.run(first, imaged.bare.told.teller(), lambda: set(GPUS) if leased else set())
    )
    try:
        imaged.health.wish(1)
        await until(lambda: imaged.runs, 10.0)
        leased = True
        await imaged.health.give_way()
        at = await imaged.bare.server().hand_over()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert (at.address, imaged.bmc.state.booted[-1], imaged.bmc.state.power) == (ADDRESS, None, "On")
    assert imaged.runs == 1


async def test_without_a_place_for_its_report_nobody_looks_and_that_is_said(tmp_path: Path) -> None:
    with double() as bmc:
        devices = declared(tmp_path / "agent")
        server = Bare(tmp_path / "agent", bmc.url, devices=devices).server()
        found = await Examining(devices, server).check(devices.listed(), "quick", anew=True)
        assert bmc.state.booted == []
    assert {one.verdict for one in found} == {"inconclusive"}
    assert "set AGENT_ERASE_REPORT_URL" in found[0].detail


def test_such_a_node_offers_its_whole_server_and_nothing_that_runs_on_it(tmp_path: Path) -> None:
    devices = declared(tmp_path)
    settings = load(AgentSettings, TOLD | {"AGENT_DATA_DIR": str(tmp_path)})
    told = described(settings, devices)
    assert (told["memory_mib"], told["cpus"]) == (0, 0)
    assert [one.device_id for one in told["devices"]] == list(GPUS)
    with pytest.raises(NoInstance, match="it is leased whole"):
        devices.instance("GPU-a", None)  # type: ignore[arg-type]


def test_what_it_draws_is_counted_at_most_and_only_while_a_tenant_has_it(tmp_path: Path) -> None:
    from node_agent.domain.energy import Busy  # noqa: PLC0415 - this test alone

    devices = declared(tmp_path)
    second = Busy(elapsed_us=1_000_000, total_us=0, devices_us={})
    assert devices.draw(second).energy_uj == 0
    devices.leased = lambda: True
    drawn = devices.draw(second)
    assert (drawn.energy_uj, drawn.idle_uj) == (2_400_000_000, 1_000_000_000)
    assert devices.full_power_w == 2_400


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"),
        ("", r'write \[\{"device_id": "GPU-'),
        ('[{"device_id": "GPU-a"}]', "missing required field `model`"),
        ('[{"device_id": "GPU-a", "model": "H200", "memory_mib": 1, "x": 1}]', "unknown field `x`"),
        ("[]", "name 1 to 64 accelerators, each once by its UUID"),
    ],
)
def test_a_file_that_names_nothing_is_refused_with_what_to_write(
    tmp_path: Path, text: str | None, said: str
) -> None:
    file = tmp_path / "devices.json"
    if text is not None:
        file.write_text(text)
    told = {"AGENT_DATA_DIR": str(tmp_path), "AGENT_DEVICES_FILE": str(file)}
    told |= {"AGENT_BMC_URL": "https://bmc.example"}
    with pytest.raises(ConfigError, match=said):
        open_devices(load(AgentSettings, TOLD | told))


def test_devices_behind_no_bmc_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="set AGENT_DEVICES_FILE, which names them, and AGENT_BMC_URL"
    ):
        open_devices(load(AgentSettings, TOLD | {"AGENT_DATA_DIR": str(tmp_path)}))


def test_an_agent_of_such_a_server_examines_it_and_measures(tmp_path: Path) -> None:
    declared(tmp_path)
    login = tmp_path / "login"
    login.write_text("mesh\nsecret")
    login.chmod(0o600)
    told = {"AGENT_DATA_DIR": str(tmp_path), "AGENT_DEVICES_FILE": str(tmp_path / "devices.json")}
    told |= {"AGENT_BMC_URL": "https://bmc.example", "AGENT_LEASE_ADDRESS": ADDRESS}
    told |= {"AGENT_BMC_CREDENTIALS_FILE": str(login)}
    settings = load(AgentSettings, TOLD | told)
    devices = open_devices(settings)
    server = open_server(settings, devices)
    assert server.quality == "measured"
    assert isinstance(open_health(settings, devices, server)._probing, Examining)
