"""``mesh node``: servers as placement sees them; a rehearsal's fault for those under `mesh up`."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mesh_tools.cli import show, where
from mesh_tools.cli.door import Door, part
from mesh_tools.cli.show import age, field, reasons
from mesh_tools.cli.verbs import Verbs, argument, door

SCENARIO = "rehearsal.json"
NODE = argument("node", "its name or id")
CHECKED_WITHIN_S = 20.0
POLL_S = 0.1
WAIT = argument(
    "--wait",
    f"seconds to wait for the verdict ({CHECKED_WITHIN_S:g}; 0: do not)",
    type=float,
    default=CHECKED_WITHIN_S,
)


def verbs(noun: str) -> Verbs:
    """Return the verbs of ``node``."""
    made = Verbs(noun, "list")
    made.add("list", list_nodes, "every node, and why it is as it is")
    made.add("get", get_node, "all about one node", NODE)
    made.add(
        "check",
        check,
        "have its health checked now; a server that its agent runs beside boots its erase image for that: its disks are erased",
        NODE,
        WAIT,
    )
    made.add(
        "cordon",
        cordon,
        "take it out: no new work, and what it has moves",
        NODE,
        argument("--reason", "why", default="cordoned by hand"),
    )
    made.add(
        "drain",
        drain,
        "empty it: replicas and jobs go elsewhere, leases stay until they end",
        NODE,
        argument("--reason", "why", default="drained by hand"),
        argument("--grace", "seconds that what cannot be preempted may go on (3600)", type=int),
    )
    made.add(
        "return",
        return_node,
        "take it back, once a fresh check passes (a server that its agent runs beside is erased, as by `check`)",
        NODE,
        WAIT,
    )
    made.add(
        "break",
        break_node,
        "flip a bit in a rehearsal GPU's health kernel, from its next check on",
        NODE,
        argument("--row", "which row of the product (17)", type=int, default=17),
        argument("--col", "which column (3)", type=int, default=3),
        argument("--bit", "which bit (5)", type=int, default=5),
        argument(
            "--device",
            "which GPU, by index (1); while work is there it is not checked",
            type=int,
            default=1,
        ),
    )
    made.add("mend", mend_node, "undo `break`", NODE)
    return made


def _instances(node: dict[str, Any]) -> str:
    """Return which GPUs are in MIG mode, and how many instances of each profile are free: ``0,1: 1g.18gb=7``."""
    cut = [str(one["index"]) for one in node.get("devices", []) if one.get("mig")]
    free = [f"{profile}={count}" for profile, count in (node.get("mig_free") or {}).items() if count]
    return f"{','.join(cut)}: {' '.join(free) or 'none free'}" if cut else ""


def list_nodes(wanted: argparse.Namespace) -> None:
    """Print the nodes."""
    items = door(wanted).items("/api/v1/nodes")
    if wanted.json:
        show.out({"items": items})
        return
    columns = [
        ("name", field("name")),
        ("state", field("state")),
        ("gpus", lambda node: f"{node['gpus']}{' (rehearsal)' if node['rehearsal'] else ''}"),
        ("free gpu_milli", field("gpu_milli_free")),
        ("mig", _instances),
        ("free mib", field("memory_mib_free")),
        ("workloads", field("workloads")),
        ("place", lambda node: " ".join(f"{k}={v}" for k, v in (node.get("place") or {}).items())),
        ("since", age("since")),
        ("reasons", reasons),
    ]
    show.table(
        items, columns, "no nodes have joined: mesh join-token create, then start an agent with it"
    )


def get_node(wanted: argparse.Namespace) -> None:
    """Print one node with its checks."""
    _one(wanted, door(wanted).call("GET", f"/api/v1/nodes/{part(wanted.node)}"))


def check(wanted: argparse.Namespace) -> None:
    """Wish for a check and say what it found."""
    mesh = door(wanted)
    wished = _wish(mesh, wanted, "check", {})
    # A verdict makes a new generation of the node, whatever it is.
    _verdict(mesh, wanted, wished, lambda node: node["generation"] > wished["generation"])


def cordon(wanted: argparse.Namespace) -> None:
    """Cordon a node."""
    node = _wish(door(wanted), wanted, "cordon", {"reason": wanted.reason})
    _say(wanted, node, "takes no new work; its replicas move")


def drain(wanted: argparse.Namespace) -> None:
    """Drain a node."""
    body = {"reason": wanted.reason}
    if wanted.grace is not None:
        body["grace_s"] = wanted.grace
    node = _wish(door(wanted), wanted, "drain", body)
    _say(wanted, node, "takes no new work; what it has leaves" if node["workloads"] else "is empty")


def return_node(wanted: argparse.Namespace) -> None:
    """Return a node and say whether its check let it."""
    mesh = door(wanted)
    wished = _wish(mesh, wanted, "return", {})
    _verdict(mesh, wanted, wished, lambda node: node["state"] != "validating")


def break_node(wanted: argparse.Namespace) -> None:
    """Write the fault that the node's agent injects from its next check on."""
    fault = {"device": wanted.device, "row": wanted.row, "col": wanted.col, "bit": wanted.bit}
    _scenario(wanted).write_text(json.dumps({"gemm": fault}) + "\n")
    print(
        f"{wanted.node}: row {wanted.row} of GPU {wanted.device} is wrong from the next check on:"
        f" mesh node check {wanted.node}"
    )


def mend_node(wanted: argparse.Namespace) -> None:
    """Take the fault away."""
    _scenario(wanted).unlink(missing_ok=True)
    print(f"{wanted.node} is whole again: mesh node return {wanted.node}")


def _scenario(wanted: argparse.Namespace) -> Path:
    data = where.data_folder(wanted.data)
    nodes = sorted(folder.name for folder in (data / "nodes").glob("*") if folder.is_dir())
    if wanted.node not in nodes:
        raise where.NotFound(
            f"{wanted.node} is no rehearsal node of {data}"
            + (
                f": it has {', '.join(nodes)}"
                if nodes
                else "; start `./mesh up`, or name its folder with --data"
            )
        )
    node: str = wanted.node
    return data / "nodes" / node / SCENARIO


def _wish(mesh: Door, wanted: argparse.Namespace, verb: str, body: dict[str, Any]) -> dict[str, Any]:
    node: dict[str, Any] = mesh.call("POST", f"/api/v1/nodes/{part(wanted.node)}:{verb}", body)
    return node


def _verdict(
    mesh: Door,
    wanted: argparse.Namespace,
    node: dict[str, Any],
    known: Callable[[dict[str, Any]], bool],
) -> None:
    until = time.monotonic() + wanted.wait
    while not known(node):
        if time.monotonic() > until:
            _say(wanted, node, "is being checked: mesh node list will tell")
            return
        time.sleep(POLL_S)
        node = mesh.call("GET", f"/api/v1/nodes/{part(node['id'])}")
    verdicts = ", ".join(
        f"{one['name']} on {one['device_id']}: {one['verdict']}" for one in node["checks"]
    )
    why = reasons(node)
    _say(wanted, node, f"was checked: {verdicts}{why and f'. {why}'}")


def _say(wanted: argparse.Namespace, node: dict[str, Any], what: str) -> None:
    if wanted.json:
        show.out(node)
    else:
        print(f"{node['name']} ({node['state']}) {what}")


def _one(wanted: argparse.Namespace, value: dict[str, Any]) -> None:
    if wanted.json:
        show.out(value)
    else:
        show.facts(value)
