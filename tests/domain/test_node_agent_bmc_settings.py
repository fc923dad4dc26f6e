"""Which hold an agent has of its server follows from its settings; what cannot be meant is refused at the start."""

import json
from pathlib import Path
from typing import Any

import pytest
from meshkit.config import load
from meshkit.errors import ConfigError
from node_agent.devices.rehearsal import Rehearsal
from node_agent.domain.leasing import Step
from node_agent.leases import WITHIN_S
from node_agent.servers import Unmanaged
from node_agent.servers.line import Pace
from node_agent.servers.opened import open_server
from node_agent.servers.redfish import RedfishServer
from node_agent.servers.rehearsal import RehearsalServer
from node_agent.settings import AgentSettings

TOLD = {"NATS_URL": "nats://127.0.0.1:1", "AGENT_NAME": "n1"}
BMC = {
    "AGENT_BMC_URL": "https://bmc.example/redfish/v1/Systems/1",
    "AGENT_LEASE_ADDRESS": "10.0.0.1:22",
}


class Real:
    """Devices that are there."""

    rehearsal = False


@pytest.fixture
def bmc(tmp_path: Path) -> dict[str, str]:
    login = tmp_path / "login"
    login.write_text("mesh\nsecret")
    login.chmod(0o600)
    told = {"AGENT_DATA_DIR": str(tmp_path), "AGENT_BMC_CREDENTIALS_FILE": str(login)}
    return TOLD | BMC | told


def opened(told: dict[str, str], devices: Any = None) -> Any:
    settings = load(AgentSettings, told)
    return open_server(settings, devices or Rehearsal("n1", 1, settings.agent_data_dir))


def test_a_server_is_its_bmc_s_where_there_is_one_else_a_rehearsal_s_or_nobody_s(
    bmc: dict[str, str],
) -> None:
    without = {name: text for name, text in bmc.items() if "BMC" not in name}
    assert isinstance(opened(without), RehearsalServer)
    assert isinstance(opened(without, Real()), Unmanaged)
    assert isinstance(opened(bmc), RedfishServer)


def test_what_a_bmc_shows_of_a_server_with_rehearsed_devices_is_a_rehearsal(
    bmc: dict[str, str],
) -> None:
    assert opened(bmc).quality == "rehearsed"
    assert opened(bmc, Real()).quality == "measured"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"AGENT_BMC_CREDENTIALS_FILE": ""}, "AGENT_BMC_CREDENTIALS_FILE is not set: AGENT_BMC_URL needs it"),
        ({"AGENT_LEASE_ADDRESS": ""}, "AGENT_LEASE_ADDRESS is not set"),
        ({"AGENT_BMC_URL": "http://bmc.example"}, "AGENT_BMC_URL is not https"),
        ({"AGENT_BMC_URL": "bmc.example"}, "AGENT_BMC_URL begins with none of http, https"),
        ({"AGENT_BMC_URL": "https://u:p@bmc.example"}, "AGENT_BMC_URL holds a login"),
        ({"AGENT_BMC_INSECURE": "true", "AGENT_BMC_CA_FILE": "ca.pem"}, "exclude each other"),
        ({"AGENT_ERASE_IMAGE_URL": "https://images.example/e.iso"}, "AGENT_ERASE_REPORT_URL is not set"),
        ({"AGENT_LEASE_IMAGE_URL": "ftp://images.example/e.iso"}, "AGENT_LEASE_IMAGE_URL begins with none"),
        ({"AGENT_FIRMWARE_FILE": "nowhere.json"}, "AGENT_FIRMWARE_FILE nowhere.json: No such file"),
    ],
)  # fmt: skip
def test_a_hold_that_cannot_be_meant_is_refused_with_what_to_write(
    bmc: dict[str, str], told: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        opened(bmc | told)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"components": {"BIOS": 1}}', '{"components": {}, "x": 1}']
)
def test_a_firmware_file_that_says_something_else_is_refused_with_an_example(
    bmc: dict[str, str], tmp_path: Path, text: str
) -> None:
    file = tmp_path / "firmware.json"
    file.write_text(text)
    with pytest.raises(
        ConfigError, match=r'write \{"components": \{"BIOS": "1.2"\}, "secure_boot": true\}'
    ):
        opened(bmc | {"AGENT_FIRMWARE_FILE": str(file)})
    file.write_text(json.dumps({"components": {"BIOS": "1.2"}}))
    assert opened(bmc | {"AGENT_FIRMWARE_FILE": str(file)})


def test_a_login_that_others_may_read_is_refused_at_the_start(bmc: dict[str, str]) -> None:
    Path(bmc["AGENT_BMC_CREDENTIALS_FILE"]).chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        opened(bmc)


def test_what_a_step_waits_for_fits_into_the_time_that_the_step_has() -> None:
    pace = Pace()
    bmc = pace.bmc_away_s + pace.bmc_back_s
    image = pace.off_at_least_s + pace.media_s + pace.on_s + pace.report_s + pace.forced_s
    waits: dict[Step, float] = {
        "hand_over": pace.forced_s + pace.media_s + pace.on_s,
        "take_back": pace.graceful_s + pace.forced_s,
        "erase": pace.forced_s + pace.sanitize_s + image + bmc,
        "attest": 0.0,
    }
    for step, wait_s in waits.items():
        assert wait_s < WITHIN_S[step] / 1.3, step
    tried_s = pace.tries * (pace.exchange_s + pace.backoff_max_s)
    assert tried_s < min(WITHIN_S.values()) / 2
