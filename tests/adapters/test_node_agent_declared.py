"""A server whose accelerators a file names: what its agent says of it, offers, and counts."""

from pathlib import Path

import pytest
from meshkit.config import load
from meshkit.errors import ConfigError
from node_agent.described import described
from node_agent.devices import NoInstance, open_devices
from node_agent.examining import Examining, open_health
from node_agent.servers.opened import open_server
from node_agent.settings import AgentSettings

from tests.adapters.bare_metal import ADDRESS
from tests.adapters.imaged import GPUS, declared

pytestmark = pytest.mark.slow

TOLD = {"NATS_URL": "nats://127.0.0.1:1", "AGENT_NAME": "n1", "AGENT_DEVICES": "declared"}


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
