"""A server behind a BMC, leased through the door: the agent's process, the bus and placement beside a double of the BMC."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.adapters.bare_metal import (
    ADDRESS,
    EXPECTED,
    PASSWORD,
    USER,
    double,
    image_ran,
    looked_at,
)
from tests.mesh.harness import Mesh, running, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

NODE = "bare-metal-1"


@contextmanager
def agent(folder: Path, mesh: Mesh, bmc_url: str, **more: str) -> Iterator[None]:
    """Run an agent beside the server of a BMC, for the block; ``more`` is told it as well."""
    folder.mkdir()
    for name, text in {
        "login": f"{USER}\n{PASSWORD}\n",
        "token": mesh.operator.post("/api/v1/join-tokens", {"uses": 1, "lifetime_s": 600}).body[
            "token"
        ],
        "firmware.json": msgspec.json.encode(EXPECTED).decode(),
    }.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    told = {
        "PATH": os.environ["PATH"],
        "NATS_URL": str(mesh.ready["nats_url"]),
        "AGENT_NAME": NODE,
        "AGENT_DATA_DIR": str(folder / "data"),
        "AGENT_DEVICES": "rehearsal",
        "AGENT_CHECK_ENROLMENT": "quick",
        "AGENT_JOIN_TOKEN_FILE": str(folder / "token"),
        "AGENT_BMC_URL": bmc_url,
        "AGENT_BMC_INSECURE": "true",
        "AGENT_BMC_CREDENTIALS_FILE": str(folder / "login"),
        "AGENT_LEASE_ADDRESS": ADDRESS,
        "AGENT_FIRMWARE_FILE": str(folder / "firmware.json"),
        **more,
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "node_agent"], env=told, stdout=log, stderr=log
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(10)


def test_a_server_behind_a_bmc_is_leased_reached_and_comes_back_clean(tmp_path: Path) -> None:
    with (
        double() as bmc,
        running(tmp_path / "mesh", "--bare", "--nodes", "1") as mesh,
        agent(tmp_path / "agent", mesh, bmc.url),
    ):

        def node(name: str) -> Any:
            items = mesh.operator.get("/api/v1/nodes")["items"]
            return next((one for one in items if one["name"] == name), {"state": "unknown"})

        until("it is checked", 60.0, lambda: node(NODE)["state"] == "ready" or None)
        mesh.operator.post("/api/v1/nodes/node-1:cordon", {"reason": "the other one is to be leased"})
        project, tenant = mesh.project("bare")
        wished = {"name": "bare", "project": project["id"], "nodes": 1, "wait_s": 30}
        path = f"/api/v1/leases/{tenant.post('/api/v1/leases', wished).body['id']}"

        def lease(*states: str) -> Any:
            found = tenant.get(path)
            return found if found["state"] in states else None

        held = until("handed over", 60.0, lambda: lease("active", "failed", "refused"))
        [server] = held["workloads"]
        assert (held["state"], server["node"], server["address"]) == ("active", NODE, ADDRESS)
        assert (bmc.state.power, PASSWORD in bmc.state.users.values()) == ("On", False)
        console = server["console"]
        assert console.startswith("ssh://")
        tenant.call("DELETE", path)
        until("it is erased", 60.0, lambda: lease("erasing", "attesting", "ended", "failed"))
        ended = until("given back", 120.0, lambda: lease("ended", "failed"))
        assert (ended["state"], ended["rehearsal"]) == ("ended", True), ended
        [server] = ended["workloads"]
        assert "address" not in server
        assert [reason["code"] for reason in server["reasons"]] == ["attested"]
        assert (bmc.state.power, bmc.state.resets) == ("Off", 1)
        until("it takes work again", 30.0, lambda: node(NODE)["state"] == "ready" or None)


def test_a_server_whose_accelerators_a_file_names_is_leased_whole_and_what_is_shown_was_measured(
    tmp_path: Path,
) -> None:
    named = [{"device_id": "GPU-a", "model": "NVIDIA H200", "memory_mib": 143_771}]
    (tmp_path / "devices.json").write_text(json.dumps(named))
    more = {
        "AGENT_DEVICES": "declared",
        "AGENT_DEVICES_FILE": str(tmp_path / "devices.json"),
        "AGENT_ERASE_IMAGE_URL": "https://images.example/erase.iso",
        "AGENT_ERASE_REPORT_URL": f"{tmp_path.as_uri()}/{{system}}.json",
    }
    with (
        double() as bmc,
        running(tmp_path / "mesh", "--bare", "--nodes", "1") as mesh,
        agent(tmp_path / "agent", mesh, bmc.url, **more),
    ):

        def booted(image: str | None) -> None:
            if image == more["AGENT_ERASE_IMAGE_URL"]:
                number = len(bmc.state.booted)
                image_ran(
                    *(tmp_path, bmc.state.system, ["NVME-1", "NVME-2"], number, [looked_at("GPU-a")])
                )

        bmc.on_boot = booted

        def node() -> Any:
            items = mesh.operator.get("/api/v1/nodes")["items"]
            found = next((one for one in items if one["name"] == NODE), None)
            return None if found is None else mesh.operator.get(f"/api/v1/nodes/{found['id']}")

        def at(state: str) -> Any:
            found = node()
            return found if found and found["state"] == state else None

        out = until("it is known, and nobody has looked at it", 60.0, lambda: at("cordoned"))
        assert "mesh node return" in json.dumps(out["reasons"]), out["reasons"]
        assert bmc.state.booted == []
        mesh.operator.post(f"/api/v1/nodes/{NODE}:return")
        until("its erase image has looked", 60.0, lambda: at("ready"))
        project, tenant = mesh.project("bare")
        job = {"name": "train", "project": project["id"], "members": 1}
        job |= {"command": {"image": "none", "argv": ["true"]}}
        job |= {"resources": {"gpus": 1, "gpu_model": "NVIDIA H200"}}
        kept = tenant.post("/api/v1/jobs", job).body
        assert (kept["state"], kept["reasons"][0]["code"]) == ("failed", "site_too_small"), kept
        wished = {"name": "bare", "project": project["id"], "nodes": 1, "wait_s": 30}
        wished |= {"gpu_model": "NVIDIA H200"}
        path = f"/api/v1/leases/{tenant.post('/api/v1/leases', wished).body['id']}"

        def lease(*states: str) -> Any:
            found = tenant.get(path)
            return found if found["state"] in states else None

        until("handed over", 60.0, lambda: lease("active", "failed", "refused"))
        tenant.call("DELETE", path)
        ended = until("given back", 120.0, lambda: lease("ended", "failed"))
        assert (ended["state"], ended.get("rehearsal", False)) == ("ended", False), ended
        [reason] = ended["workloads"][0]["reasons"]
        assert (reason["code"], "rehears" in reason["detail"]) == ("attested", False)
        until("it may be leased again", 30.0, lambda: at("ready"))
