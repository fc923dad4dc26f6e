"""What an agent is told of its place: read whole, or refused in one error that names each fault."""

import pytest
from meshkit.config import load
from meshkit.errors import ConfigError
from node_agent.settings import ASSURANCES_MAX, AgentSettings

TOLD = {"NATS_URL": "nats://127.0.0.1:1", "AGENT_DATA_DIR": "data", "AGENT_NAME": "n1"}


def test_a_place_and_its_assurances_are_read_from_one_text_each() -> None:
    said = {
        "AGENT_PLACE": "rack=r1, nvlink=d1,pdu=p1,",
        "AGENT_ASSURANCES": "hds,iso-27001,hds",
        "AGENT_IDLE_W": "400",
        "AGENT_GPU_W": "700",
    }
    settings = load(AgentSettings, TOLD | said)
    assert settings.agent_place == {"rack": "r1", "nvlink": "d1", "pdu": "p1"}
    assert settings.agent_assurances == ("hds", "iso-27001")
    assert (settings.agent_idle_w, settings.agent_gpu_w) == (400, 700)


def test_a_server_of_which_nothing_is_said_stands_nowhere_and_draws_what_nobody_knows() -> None:
    settings = load(AgentSettings, TOLD)
    assert (settings.agent_place, settings.agent_assurances) == ({}, ())
    assert (settings.agent_idle_w, settings.agent_gpu_w) == (0, 0)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("AGENT_PLACE", "rack:r1", "write rack=r1, of nvlink, rack, leaf, rail, pdu, row, hall"),
        ("AGENT_PLACE", "shelf=s1", "names no level"),
        ("AGENT_PODMAN_MORE", '--runtime "runc', "No closing quotation"),
        ("AGENT_PLACE", "rack=r1,rack=r2", "rack stands there twice"),
        ("AGENT_PLACE", "rack=", "a name has lower case letters"),
        ("AGENT_PLACE", "rack=Rack One", "a name has lower case letters"),
        ("AGENT_ASSURANCES", "SecNumCloud", "a name has lower case letters"),
        ("AGENT_ASSURANCES", ",".join(f"a{n}" for n in range(ASSURANCES_MAX + 1)), "at most 32"),
        ("AGENT_IDLE_W", "-1", "`int` >= 0"),
        ("AGENT_GPU_W", "much", "Expected `int`"),
    ],
)
def test_what_cannot_be_meant_is_named_with_what_to_write(name: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is unusable: .*{said}"):
        load(AgentSettings, TOLD | {name: text})


def test_all_that_is_wrong_stands_in_one_error() -> None:
    wrong = {"AGENT_PLACE": "shelf=s1", "AGENT_ASSURANCES": "A", "AGENT_IDLE_W": "x", "AGENT_NAME": ""}
    with pytest.raises(ConfigError) as caught:
        load(AgentSettings, TOLD | wrong)
    for name in wrong:
        assert str(caught.value).count(f"{name} is ") == 1
