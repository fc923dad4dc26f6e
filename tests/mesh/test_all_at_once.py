"""The power goes: everything is killed in the same moment while requests flow, and started on the same folder."""

import os
import signal
from pathlib import Path

import pytest

from tests.mesh.harness import Mesh, free_port, start, until
from tests.mesh.insides import engines, runs
from tests.mesh.test_faults import assert_the_ledger_agrees, goes_on
from tests.mesh.traffic import Traffic

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(180)]

CALLERS = 3


def stands(mesh: Mesh, request_id: str) -> bool:
    return mesh.operator.call("GET", f"/api/v1/requests/{request_id}").status == 200


def kill_everything(mesh: Mesh) -> list[int]:
    """Kill the parent, every process it names and every engine; return their ids."""
    named = [pid for name in mesh.ready["pids"] for pid in mesh.pids(name)]
    below = [pid for engine in engines(mesh) for pid in (engine.shim, engine.pid)]
    killed = [mesh.up.pid, *named, *below]
    for pid in killed:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            # Whoever stood above it has taken it along.
            continue
    mesh.up.wait()
    return killed


def test_after_everything_was_killed_at_once_the_sums_close(tmp_path: Path) -> None:
    port = str(free_port())
    mesh = start(tmp_path, "--port", port)
    try:
        with Traffic(mesh.tenant, callers=CALLERS, tokens=200) as traffic:
            goes_on(traffic, more=10)
            killed = kill_everything(mesh)
            until("nothing is left", 10.0, lambda: None if any(runs(pid) for pid in killed) else True)
            mesh = start(tmp_path, "--port", port)
            goes_on(traffic)
        assert_the_ledger_agrees(mesh, traffic.seen)
        # What was admitted while no engine was up again is recorded, too, as failed.
        told = [one.request_id for one in traffic.seen if one.request_id]
        assert len(set(told)) == len(told)
        recorded = [one for one in told if stands(mesh, one)]
        (usage,) = (
            item for item in mesh.tenant.get("/api/v1/usage")["items"] if item["model"] == "tiny"
        )
        # A caller that was cut before it saw a header knows of no request.
        assert len(recorded) <= usage["requests"] <= len(recorded) + CALLERS
        refused = {one.status for one in traffic.seen} - {0, 200}
        assert refused <= {401, 503}, refused
    finally:
        mesh.stop()
