"""The data folder of a mesh: one owner, ports that stay, secrets that only we may read."""

import json
import socket
import stat
from pathlib import Path

import pytest
from mesh_contracts.keytext import digest_of, role_in
from mesh_contracts.rights import STATIC_USERS
from mesh_tools.up import keys, plan
from mesh_tools.up.layout import Layout, UpFailed, is_free, keep_ports, write_private
from mesh_tools.up.state import State


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "a mesh")
    made.make()
    return made


def test_a_folder_has_one_owner_at_a_time_and_the_second_is_told_who(layout: Layout) -> None:
    with (
        layout.claim(),
        pytest.raises(UpFailed, match=r"a mesh already runs in .*a mesh \(process \d+\)"),
    ):
        layout.claim()
    layout.claim().close()


def test_programs_of_one_mesh_share_a_folder_and_another_mesh_is_kept_out(layout: Layout) -> None:
    first, second = layout.claim(shared=True), layout.claim(shared=True)
    with first, second, pytest.raises(UpFailed, match="a mesh already runs"):
        layout.claim()
    with layout.claim(), pytest.raises(UpFailed, match="a mesh already runs"):
        layout.claim(shared=True)


def test_ports_are_chosen_once_and_kept(layout: Layout) -> None:
    names = plan.port_names(2)
    first = keep_ports(layout.ports, names)
    assert len(set(first.values())) == len(names)
    assert keep_ports(layout.ports, names) == first


def test_a_kept_port_that_somebody_took_is_chosen_anew(layout: Layout) -> None:
    first = keep_ports(layout.ports, ["nats", "postgres"])
    with socket.socket() as other:
        other.bind(("127.0.0.1", first["nats"]))
        other.listen()
        assert not is_free(first["nats"])
        second = keep_ports(layout.ports, ["nats", "postgres"])
    assert second["nats"] != first["nats"]
    assert second["postgres"] == first["postgres"]


def test_a_kept_port_that_the_gateway_is_to_have_is_chosen_anew(layout: Layout) -> None:
    first = keep_ports(layout.ports, ["nats", "postgres"])
    second = keep_ports(layout.ports, ["nats", "postgres"], other=first["nats"])
    assert first["nats"] not in second.values()
    assert second["postgres"] == first["postgres"]


def test_secrets_are_the_same_at_each_start_and_only_we_may_read_them(layout: Layout) -> None:
    first = keys.prepare(layout.keys, nodes=2)
    second = keys.prepare(layout.keys, nodes=2)
    assert (first.users, first.callout) == (second.users, second.callout)
    assert (first.admin_key, first.project_key) == (second.admin_key, second.project_key)
    assert first.join_token != second.join_token
    assert set(first.users) == set(STATIC_USERS)
    assert len(set(first.users.values())) == len(STATIC_USERS)
    assert [role_in(text) for text in (first.admin_key, first.project_key, first.join_token)] == [
        "admin",
        "project",
        "join",
    ]
    assert {stat.S_IMODE(file.stat().st_mode) for file in layout.keys.iterdir()} == {0o600}


def test_identity_is_told_digests_and_never_a_key(layout: Layout) -> None:
    made = keys.prepare(layout.keys, nodes=2)
    text = (layout.keys / "bootstrap.json").read_text()
    for secret in (made.admin_key, made.project_key, made.join_token):
        assert secret not in text
        assert digest_of(secret) in text
    assert json.loads(text)["join_tokens"][0]["uses"] == 2


def test_no_service_is_told_a_secret_in_its_arguments_or_more_of_our_environment_than_it_needs(
    layout: Layout,
) -> None:
    ports = dict.fromkeys(plan.port_names(1), 1)
    environ = {
        "PATH": "/bin",
        "AWS_SECRET": "x",
        "MESH_API_KEY": "y",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c",
    }
    told = plan.Told(ports=ports, gateway_port=8080, environ=environ)
    specs = [plan.service(layout, told, owner, "postgresql://x") for owner in plan.STORED]
    specs += [plan.service(layout, told, "gateway", None), plan.agent(layout, told, "node-1")]
    for spec in specs:
        assert plan.command(spec)[1:] == ["-P", "-m", spec.package]
        assert {"AWS_SECRET", "MESH_API_KEY"}.isdisjoint(spec.environment)
        assert spec.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://c"
        assert ("POSTGRES_DSN" in spec.environment) == (
            spec.service not in {"inference-gateway", "node-agent"}
        )


def test_gateways_on_one_port_have_each_their_own_journal_and_private_port(layout: Layout) -> None:
    ports = keep_ports(layout.ports, plan.port_names(1, 3))
    told = plan.Told(ports=ports, gateway_port=8080, environ={}, gateways=3)
    names = plan.gateways_of(3)
    specs = [plan.service(layout, told, "gateway", None, name=name) for name in names]
    assert {spec.service for spec in specs} == {"inference-gateway"}
    assert {spec.environment["GATEWAY_PORT"] for spec in specs} == {"8080"}
    assert {spec.environment["GATEWAY_REUSE_PORT"] for spec in specs} == {"true"}
    assert len({spec.environment["NATS_CREDENTIALS"] for spec in specs}) == 1
    assert len({spec.ops_port for spec in specs}) == 3
    folders = [Path(spec.environment["GATEWAY_DATA_DIR"]) for spec in specs]
    assert folders == [layout.data / name for name in ("gateway", "gateway-2", "gateway-3")]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    assert layout.idle_doors(plan.gateways_of(3)) == []
    assert layout.idle_doors(plan.gateways_of(1)) == ["gateway-2", "gateway-3"]
    alone = plan.Told(ports=ports, gateway_port=8080, environ={"GATEWAY_REUSE_PORT": "true"})
    spec = plan.service(layout, alone, "gateway", None)
    assert spec.environment["GATEWAY_REUSE_PORT"] == "false"


def test_a_ready_file_follows_only_once_it_is_true_and_goes_away_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "ready.json"
    state = State([file], gateway="http://g", admin_key="a", project_key="p", nats_url="nats://n")
    state.pids = {"identity": [1]}
    state.refresh()
    assert not file.exists()
    state.write()
    assert json.loads(file.read_text())["pids"] == {"identity": [1]}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    state.pids = {"identity": [2]}
    state.refresh()
    assert json.loads(file.read_text())["pids"] == {"identity": [2]}
    state.remove()
    assert not file.exists()


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    write_private(file, "one")
    write_private(file, "two")
    assert file.read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UpFailed, match="name a folder that can be written with --data"):
        Layout(tmp_path / "file").make()


def test_what_holds_secrets_or_content_is_closed_to_others(layout: Layout) -> None:
    closed = ("nats", "keys", "run", "traces", "nodes", "gateway")
    assert {stat.S_IMODE((layout.data / name).stat().st_mode) for name in closed} == {0o700}


def test_a_node_that_ran_here_before_and_is_not_started_is_named(layout: Layout) -> None:
    assert layout.absent(["node-1"]) == []
    for name in ("node-3", "node-1", "node-2"):
        (layout.nodes / name).mkdir()
    assert layout.absent(["node-1"]) == ["node-2", "node-3"]
    assert layout.absent(["node-1", "node-2", "node-3", "node-4"]) == []
