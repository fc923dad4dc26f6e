"""``mesh endpoint logs`` and ``mesh job logs``: what replicas and members printed last."""

import argparse
from typing import Any

from mesh_tools.cli import show
from mesh_tools.cli.door import part
from mesh_tools.cli.verbs import argument, door

ENDED = ("stopped", "failed")
MEMBER = argument("--workload", "only of this one, by its id (all that run, or else the last)")


def logs(wanted: argparse.Namespace) -> None:
    """Print the end of each workload's log."""
    plural, name = ("jobs", wanted.job) if hasattr(wanted, "job") else ("endpoints", wanted.endpoint)
    mesh = door(wanted)
    one = mesh.call("GET", f"/api/v1/{plural}/{part(name)}")
    found = [
        mesh.call("GET", f"/api/v1/workloads/{part(each)}/log") for each in _meant(one, wanted.workload)
    ]
    if wanted.json:
        show.out({"items": found})
        return
    if not found:
        print(f"{one['name']} has no workloads yet")
    for log in found:
        told = f"as of {log['at']}" if log.get("at") else "its node has told nothing of it yet"
        print(f"--- {log['workload_id']} on {log['node']}, {told}{', cut' if log.get('cut') else ''}")
        if log.get("text"):
            print(log["text"].rstrip("\n"))


def _meant(one: dict[str, Any], workload: str | None) -> list[str]:
    if workload is not None:
        return [workload]
    there = one.get("workloads", [])
    living = [each["id"] for each in there if each["state"] not in ENDED]
    if one.get("command") is not None:
        # Of a job each member says its part, also once it is over.
        return [each["id"] for each in there]
    return living or [each["id"] for each in there[-1:]]
