"""Work that tenants bring, on a whole mesh: a gang meets and ends, a server is leased and comes back clean."""

from typing import Any

import pytest

from tests.mesh.harness import Mesh, until

pytestmark = pytest.mark.slow

GANG = """
import os, socket, sys, time
me, there = int(os.environ["RANK"]), (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
print("I am rank", me, flush=True)
if me == 0:
    with socket.create_server(there) as door:
        door.settimeout(30)
        caller, _ = door.accept()
        assert caller.recv(8) == b"rank 1"
else:
    for _ in range(150):
        try:
            with socket.create_connection(there, 1) as call:
                call.sendall(b"rank 1")
            sys.exit(0)
        except OSError:
            time.sleep(0.2)
    sys.exit("nobody answers at " + str(there))
"""


def test_the_members_of_a_gang_meet_and_the_job_succeeds(mesh: Mesh) -> None:
    project, tenant = mesh.project("gang")
    job = {
        "name": "meet",
        "project": project["id"],
        "command": {"image": "none", "argv": ["python3", "-c", GANG]},
        "members": 2,
        "resources": {"gpus": 1},
        "restarts_max": 0,
    }
    made = tenant.post("/api/v1/jobs", job).body

    def over() -> dict[str, Any] | None:
        found: dict[str, Any] = tenant.get(f"/api/v1/jobs/{made['id']}")
        return found if found["state"] in {"succeeded", "failed"} else None

    ended = until("the gang met", 60.0, over)
    assert (ended["state"], ended["attempt"]) == ("succeeded", 1), ended
    assert {one["state"] for one in ended["workloads"]} == {"stopped"}

    def said() -> set[str] | None:
        logs = [tenant.get(f"/api/v1/workloads/{one['id']}/log") for one in ended["workloads"]]
        return {log["text"] for log in logs} if all(log.get("text") for log in logs) else None

    assert until("what they printed", 10.0, said) == {"I am rank 0\n", "I am rank 1\n"}


def empty_one_server(mesh: Mesh) -> None:
    """Have the server with the least on it hand that over to others, and come back."""
    nodes = mesh.operator.get("/api/v1/nodes")["items"]
    least = min(nodes, key=lambda one: one["workloads"])
    path = f"/api/v1/nodes/{least['id']}"

    def node(state: str) -> Any:
        return lambda: True if mesh.operator.get(path)["state"] == state else None

    if least["workloads"]:
        mesh.operator.post(f"{path}:drain", {"reason": "a lease is to have it"})
        until("empty", 60.0, node("repairing"))
        mesh.operator.post(f"{path}:return", {})
        until("ready again", 30.0, node("ready"))


def test_a_leased_server_comes_back_clean_and_says_that_it_was_a_rehearsal(mesh: Mesh) -> None:
    empty_one_server(mesh)
    project, tenant = mesh.project("bare")
    wished = {"name": "bare", "project": project["id"], "nodes": 1}
    made = tenant.post("/api/v1/leases", wished).body

    def now(*states: str) -> Any:
        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = tenant.get(f"/api/v1/leases/{made['id']}")
            return found if found["state"] in states else None

        return look

    held = until("handed over", 60.0, now("active", "failed", "refused"))
    assert (held["state"], held["rehearsal"]) == ("active", True), held
    tenant.call("DELETE", f"/api/v1/leases/{made['id']}")
    ended = until("given back", 60.0, now("ended", "failed"))
    assert ended["state"] == "ended", ended
    [server] = ended["workloads"]
    assert [reason["code"] for reason in server["reasons"]] == ["attested"]
    assert "rehearsal" in server["reasons"][0]["detail"]
