"""Every process is killed in turn while requests flow; afterwards the sums close."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mesh.harness import Mesh, running, until
from tests.mesh.traffic import Seen, Traffic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder: Path = tmp_path_factory.mktemp("faults")
    with running(folder) as started:
        yield started


def assert_the_ledger_agrees(mesh: Mesh, seen: list[Seen]) -> None:
    """Each request whose usage was seen stands once, with exactly it; each admitted one stands once."""
    admitted = [one for one in seen if one.status == 200]
    assert admitted, "no request was admitted"
    assert len({one.request_id for one in admitted}) == len(admitted)
    for one in admitted:
        usage = mesh.record(one.request_id, seconds=45.0)["usage"]
        if one.usage is not None:
            assert usage["completion_tokens"] == one.usage["completion_tokens"], (one, usage)
            assert usage["prompt_tokens"] == one.usage["prompt_tokens"], (one, usage)
        else:
            assert usage["state"] in {"aborted", "failed", "completed"}, usage
            if one.tokens:
                assert usage["completion_tokens"] is not None, (one, usage)
                assert usage["completion_tokens"] >= one.tokens, (one, usage)


def goes_on(traffic: Traffic, more: int = 3, seconds: float = 30.0) -> None:
    """Wait until ``more`` requests ended well from here on."""
    before = traffic.answered
    until("requests go on", seconds, lambda: True if traffic.answered >= before + more else None)


@pytest.mark.parametrize("name", ["identity", "placement", "metering", "carbon-accounting", "postgres"])
def test_requests_are_answered_while_a_service_behind_the_door_is_killed(mesh: Mesh, name: str) -> None:
    with Traffic(mesh.tenant) as traffic:
        goes_on(traffic)
        killed = mesh.kill(name)
        goes_on(traffic)
        mesh.wait_restarted(name, killed)
        goes_on(traffic)
    cut = [one for one in traffic.seen if one.usage is None]
    assert not cut, f"{name} was killed and {len(cut)} of {len(traffic.seen)} failed: {cut[0]}"
    assert_the_ledger_agrees(mesh, traffic.seen)


@pytest.mark.parametrize("name", ["inference-gateway", "node-agent", "nats-server"])
def test_a_killed_gateway_agent_or_bus_loses_no_record(mesh: Mesh, name: str) -> None:
    with Traffic(mesh.tenant) as traffic:
        goes_on(traffic)
        killed = mesh.kill(name)
        mesh.wait_restarted(name, killed)
        goes_on(traffic)
    assert_the_ledger_agrees(mesh, traffic.seen)


def test_what_a_killed_agent_ran_serves_on_and_is_adopted(mesh: Mesh) -> None:
    engine, before = _engine_pid(mesh, "tiny"), _replicas(mesh)
    with Traffic(mesh.tenant) as traffic:
        goes_on(traffic)
        killed = mesh.kill("node-agent")
        goes_on(traffic)
        mesh.wait_restarted("node-agent", killed)
        goes_on(traffic)
    until("every endpoint serves", 30.0, lambda: _replicas(mesh) == before or None)
    assert _engine_pid(mesh, "tiny") == engine
    assert_the_ledger_agrees(mesh, traffic.seen)


def test_the_door_answers_with_everything_behind_it_away(mesh: Mesh) -> None:
    behind = ["identity", "placement", "metering", "carbon-accounting", "postgres"]
    stopped = {name: mesh.kill(name, signal.SIGSTOP) for name in behind}
    try:
        with Traffic(mesh.tenant) as traffic:
            goes_on(traffic, more=10)
    finally:
        for pids in stopped.values():
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
    assert all(one.usage is not None for one in traffic.seen)
    assert_the_ledger_agrees(mesh, traffic.seen)


def test_the_bus_is_away_for_half_a_minute_and_no_node_is_lost_and_no_replica_moves(mesh: Mesh) -> None:
    before = until("the mesh is at rest", 30.0, lambda: _at_rest(mesh))
    frozen = mesh.kill("nats-server", signal.SIGSTOP)
    try:
        time.sleep(30)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    until("the door asks placement again", 20.0, lambda: _standing(mesh))
    time.sleep(12)  # longer than a silent node would be judged lost
    assert _standing(mesh) == before


def _at_rest(mesh: Mesh) -> dict[str, Any] | None:
    """Return how everything stands once all is well, and no news of what was killed before is on its way."""
    standing = _standing(mesh)
    well = {"ready", "serving"}
    if any(state not in well for state, *_ in standing.values()):
        return None
    time.sleep(3)
    return standing if _standing(mesh) == standing else None


def _standing(mesh: Mesh) -> dict[str, Any]:
    """Return each node's state and since when, and each endpoint's state and replicas."""
    nodes = mesh.operator.get("/api/v1/nodes")["items"]
    return {node["name"]: (node["state"], node["since"]) for node in nodes} | _replicas(mesh)


def _replicas(mesh: Mesh) -> dict[str, Any]:
    """Return each endpoint's state, and its replicas with their nodes."""
    listed = mesh.tenant.get("/api/v1/endpoints")["items"]
    whole = [mesh.tenant.get(f"/api/v1/endpoints/{item['id']}") for item in listed]
    return {
        one["name"]: (one["state"], [(it["id"], it["node"]) for it in one["workloads"]])
        for one in whole
    }


def test_an_engine_killed_mid_stream_is_recorded_and_replaced(mesh: Mesh) -> None:
    with Traffic(mesh.tenant) as traffic:
        goes_on(traffic)
        engine = _engine_pid(mesh, "tiny")
        os.kill(engine, signal.SIGKILL)
        goes_on(traffic, seconds=30.0)
    assert_the_ledger_agrees(mesh, traffic.seen)


def _engine_pid(mesh: Mesh, name: str) -> int:
    endpoint = next(
        item for item in mesh.tenant.get("/api/v1/endpoints")["items"] if item["name"] == name
    )
    workload = mesh.tenant.get(f"/api/v1/endpoints/{endpoint['id']}")["workloads"][0]["id"]
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                said = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"node_agent.engines.llama_server" in said and any(
                workload.encode() in word for word in said
            ):
                return int(process.name)
    raise AssertionError(f"no engine runs for {workload}")
