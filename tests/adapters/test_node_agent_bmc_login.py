"""The login of a BMC: changed with each lease, kept by the agent alone, never said."""

import json
import logging
import stat
from pathlib import Path

import pytest
from meshkit.config import Secret
from meshkit.errors import ConfigError
from node_agent.doubles.redfish_pages import Fault
from node_agent.servers import ServerFault
from node_agent.servers.keys import FILE, Keys, Login, drawn, read_login

from tests.adapters.bare_metal import ADDRESS, PASSWORD, USER, Bare, double

pytestmark = pytest.mark.slow

IMAGE = "https://images.example/lease.iso"


async def test_the_login_changes_with_each_hand_over_and_take_back_and_nobody_hears_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with double() as bmc:
        bare = Bare(tmp_path, bmc.url, lease_image=IMAGE)
        used = [PASSWORD]

        def before(_step: str) -> None:
            used.append(bmc.state.users[USER])

        async with bare.agent() as agent:
            await bare.through(agent, before=before)
        used = list(dict.fromkeys([*used, bmc.state.users[USER]]))
        assert len(used) == 3
        assert bmc.state.wrong_logins == 0, "a BMC locks accounts after a few"
        kept = tmp_path / FILE
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert json.loads(kept.read_bytes()) == {"user": USER, "password": used[-1]}
        told = caplog.text + repr(bare.told.facts) + (tmp_path / "lease.json").read_text()
        assert [one for one in used if one in told] == []


@pytest.mark.parametrize("kind", ["denied", "ignored", "busy"])
async def test_a_password_that_the_bmc_does_not_take_hands_nothing_over_and_locks_nobody_out(
    tmp_path: Path, kind: str
) -> None:
    with double() as bmc:
        bare = Bare(tmp_path, bmc.url)
        bmc.state.faults = [Fault(kind, "PATCH /redfish/v1/AccountService")]  # type: ignore[arg-type]
        with pytest.raises(ServerFault, match="changing the BMC's password"):
            await bare.server().hand_over()
        assert bmc.state.power == "Off"
        bmc.state.faults = []
        assert (await bare.server().hand_over()).address == ADDRESS


async def test_a_password_whose_answer_was_lost_is_found_by_the_next_start(tmp_path: Path) -> None:
    with double() as bmc:
        bare = Bare(tmp_path, bmc.url)
        keys = Keys(bare.login, bare.folder)
        fresh = keys.begin(Login(USER, Secret(PASSWORD)))
        bmc.state.users[USER] = fresh.password.reveal()
        assert (await bare.server().hand_over()).address == ADDRESS


async def test_a_login_that_the_operator_writes_anew_opens_a_bmc_that_forgot_the_agent_s(
    tmp_path: Path,
) -> None:
    with double() as bmc:
        bare = Bare(tmp_path, bmc.url)
        await bare.server().hand_over()
        bmc.state.users[USER] = "factory-1"
        bmc.state.sessions.clear()
        with pytest.raises(
            ServerFault, match=f"refuses the agent's login: write one .* into {bare.login}"
        ):
            await bare.server().take_back()
        bare.login.write_text(json.dumps({"user": USER, "password": "factory-1"}))
        await bare.server().take_back()
        assert bmc.state.users[USER] != "factory-1"


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("mesh\npass", 0o640, "may be read by others than its owner: chmod 600"),
        ("mesh\npass", 0o604, "may be read by others"),
        ("mesh", 0o600, "two lines, or JSON"),
        ("", 0o600, "two lines, or JSON"),
        ('{"user": "mesh"}', 0o600, "two lines, or JSON"),
        ("a\nb\nc", 0o600, "two lines, or JSON"),
    ],
)
def test_a_login_that_others_may_read_or_that_is_none_is_refused(
    tmp_path: Path, text: str, mode: int, said: str
) -> None:
    file = tmp_path / "login"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(ConfigError, match=said) as caught:
        read_login(file)
    assert "pass" not in str(caught.value).replace("password", "")


def test_passwords_are_drawn_with_what_bmcs_ask_for() -> None:
    found = {drawn(20) for _ in range(200)}
    assert len(found) == 200
    for one in found:
        assert len(one) == 20
        assert any(c.islower() for c in one)
        assert any(c.isupper() for c in one)
        assert any(c.isdigit() for c in one)
        assert set(one) & set("-_")
