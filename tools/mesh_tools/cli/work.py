"""``mesh job|lease``: gangs that run to their end, and whole servers given to one tenant."""

import argparse
import shlex
import time
from typing import Any

from mesh_tools.cli import show
from mesh_tools.cli.door import Door, Refused, part
from mesh_tools.cli.logs import MEMBER, logs
from mesh_tools.cli.show import Column, age, field, reasons
from mesh_tools.cli.terms import ISOLATION, NEAR, PROJECT, SHAPE, project, residency, shape, terms
from mesh_tools.cli.verbs import Verbs, argument, door

POLL_S = 0.2
WAIT = argument("--wait", "seconds to wait until it has begun (0)", type=float, default=0.0)
ENDED = argument("--ended", "those that have ended, too", action="store_true")
BEGUN = {"jobs": {"running", "succeeded"}, "leases": {"active"}}
REFUSED = frozenset({"refused", "failed"})
OVER = {"failed", "cancelled", "refused", "ended"}


def verbs(noun: str) -> Verbs:
    """Return the verbs of one of this module's nouns."""
    made = Verbs(noun, "list")
    one = argument(noun, "its id, or its name in your project")
    if noun == "job":
        made.add("list", list_jobs, "the jobs you see, and why each waits", ENDED)
        made.add("get", get, "all about one job and its members", one)
        made.add(
            "submit",
            submit,
            "run a gang",
            argument("name", "what it is called"),
            argument("--image", "what each member runs", required=True),
            argument(
                "--command", "its command, in the words that a shell makes of it", type=shlex.split
            ),
            argument("--env", "NAME=VALUE of its environment; may be repeated", action="append"),
            argument("--members", "how many members, all or none (1)", type=int, default=1),
            PROJECT,
            *SHAPE,
            *NEAR,
            ISOLATION,
            argument("--stays", "it is never preempted", action="store_true"),
            argument("--restart-loses", "seconds of its work that a restart takes (3600)", type=int),
            argument("--restarts", "how often it is tried again after it failed (3)", type=int),
            argument(
                "--elastic", "members that are lost are replaced, the others go on", action="store_true"
            ),
            argument("--run-max", "seconds after which it is ended (0: never)", type=int),
            argument(
                "--slack", "seconds by which it may begin later where the grid is cleaner", type=int
            ),
            WAIT,
        )
        made.add("cancel", end, "end a job", one)
        made.add("logs", logs, "what its members printed last", one, MEMBER)
    else:
        made.add("list", list_leases, "the leases you see, and why each waits", ENDED)
        made.add("get", get, "all about one lease and its servers", one)
        made.add(
            "create",
            request,
            "whole servers, or whole NVLink domains",
            argument("name", "what it is called"),
            argument("--nodes", "how many servers", type=int, default=0),
            argument("--domains", "how many NVLink domains", type=int, default=0),
            argument("--gpu-model", "of which model"),
            argument("--gpus-per-node", "with so many GPUs each", type=int),
            argument("--jurisdiction", "where the data may be; may be repeated (FR)", action="append"),
            *NEAR,
            argument(
                "--wait-room", "seconds to wait for room (0: refused at once)", type=int, default=0
            ),
            argument("--starts-at", "when, like 2027-01-31T08:00:00Z"),
            argument("--ends-at", "until when, like 2027-01-31T18:00:00Z"),
            PROJECT,
            WAIT,
        )
        made.add("release", end, "give its servers back; they are erased and attested", one)
    return made


def list_jobs(wanted: argparse.Namespace) -> None:
    """Print the jobs."""
    columns = [
        ("name", field("name")),
        ("project", field("project")),
        ("state", field("state")),
        ("members", field("members")),
        ("gpus each", lambda one: _each(one["resources"])),
        ("priority", lambda one: one.get("priority", 100)),
        ("position", _position),
        ("starts", starts),
        ("since", age("since")),
        ("reasons", reasons),
    ]
    _list(wanted, "jobs", columns, "no jobs: mesh job submit NAME --image IMAGE")


def list_leases(wanted: argparse.Namespace) -> None:
    """Print the leases."""
    columns = [
        ("name", field("name")),
        ("project", field("project")),
        ("state", field("state")),
        ("nodes", field("nodes")),
        ("domains", field("domains")),
        ("position", _position),
        ("starts", starts),
        ("ends", field("ends_at")),
        ("since", age("since")),
        ("reasons", reasons),
    ]
    _list(wanted, "leases", columns, "no leases: mesh lease create NAME --nodes N")


def get(wanted: argparse.Namespace) -> None:
    """Print one job or lease."""
    plural, name = _meant(wanted)
    found = door(wanted).call("GET", f"/api/v1/{plural}/{part(name)}")
    if wanted.json:
        show.out(found)
    else:
        show.facts(found)


def submit(wanted: argparse.Namespace) -> None:
    """Submit a job; with ``--wait``, return once it runs."""
    command: dict[str, Any] = {"image": wanted.image, "argv": wanted.command or []}
    if wanted.env:
        command["env"] = _environment(wanted.env)
    body = {
        "name": wanted.name,
        "command": command,
        "members": wanted.members,
        **shape(wanted),
        **terms(wanted),
    }
    if wanted.isolation != "none":
        body["isolation"] = wanted.isolation
    if wanted.stays:
        body["preemptible"] = False
    if wanted.elastic:
        body["elastic"] = True
    said = {
        "restart_loses_s": wanted.restart_loses,
        "restarts_max": wanted.restarts,
        "run_max_s": wanted.run_max,
        "slack_s": wanted.slack,
    }
    body |= {name: value for name, value in said.items() if value is not None}
    _made(wanted, "jobs", body)


def request(wanted: argparse.Namespace) -> None:
    """Request a lease; with ``--wait``, return once its servers were handed over."""
    said = {
        "gpu_model": wanted.gpu_model,
        "gpus_per_node": wanted.gpus_per_node,
        "starts_at": wanted.starts_at,
        "ends_at": wanted.ends_at,
    }
    body = {
        "name": wanted.name,
        "nodes": wanted.nodes,
        "domains": wanted.domains,
        "wait_s": wanted.wait_room,
        "residency": residency(wanted),
        **terms(wanted),
        **{name: value for name, value in said.items() if value is not None},
    }
    _made(wanted, "leases", body)


def end(wanted: argparse.Namespace) -> None:
    """Cancel a job, or release a lease, provided nobody else changed it meanwhile."""
    plural, name = _meant(wanted)
    mesh = door(wanted)
    before = mesh.call("GET", f"/api/v1/{plural}/{part(name)}")
    if_match = {"if-match": str(before["generation"])}
    _said(wanted, mesh.call("DELETE", f"/api/v1/{plural}/{part(before['id'])}", None, if_match))


def starts(one: dict[str, Any]) -> str:
    """Return when something that waits will begin, as far as anybody knows."""
    if one["state"] not in {"queued", "requested"}:
        return "-"
    return str(one.get("expected_start_at") or one.get("starts_at") or "unknown")


def _position(one: dict[str, Any]) -> str:
    place = one.get("position")
    return "-" if place is None else str(place)


def _each(resources: dict[str, Any]) -> str:
    if resources.get("mig"):
        return str(resources["mig"])
    if resources.get("gpu_milli"):
        return f"{resources['gpu_milli']} milli"
    return str(resources.get("gpus", 0))


def _environment(said: list[str]) -> dict[str, str]:
    found = {}
    for one in said:
        name, there, value = one.partition("=")
        if not (name and there):
            raise Refused(f"--env {one}: write NAME=VALUE")
        found[name] = value
    return found


def _list(wanted: argparse.Namespace, plural: str, columns: list[Column], empty: str) -> None:
    query = {"ended": "true"} if wanted.ended else {}
    mesh = door(wanted)
    items = mesh.items(f"/api/v1/{plural}", **query)
    if (
        not (items or wanted.ended or wanted.json)
        and mesh.call("GET", f"/api/v1/{plural}?ended=true&limit=1")["items"]
    ):
        empty = (
            f"none waits or runs; those that have ended: mesh {plural.removesuffix('s')} list --ended"
        )
    if wanted.json:
        show.out({"items": items})
    else:
        show.table(items, columns, empty)


def _meant(wanted: argparse.Namespace) -> tuple[str, str]:
    if hasattr(wanted, "job"):
        return "jobs", wanted.job
    return "leases", wanted.lease


def _made(wanted: argparse.Namespace, plural: str, body: dict[str, Any]) -> None:
    mesh = door(wanted)
    made = _begun(
        mesh, wanted, plural, mesh.call("POST", f"/api/v1/{plural}", {**project(wanted, mesh), **body})
    )
    if (wanted.wait and made["state"] not in BEGUN[plural]) or made["state"] in REFUSED:
        if wanted.json:
            show.out(made)
        raise Refused(f"{made['name']} is {made['state']}: {reasons(made) or 'no reason is given'}")
    _said(wanted, made)


def _begun(mesh: Door, wanted: argparse.Namespace, plural: str, made: dict[str, Any]) -> dict[str, Any]:
    until = time.monotonic() + wanted.wait
    while made["state"] not in BEGUN[plural] | OVER and time.monotonic() < until:
        time.sleep(POLL_S)
        made = mesh.call("GET", f"/api/v1/{plural}/{part(made['id'])}")
    return made


def _said(wanted: argparse.Namespace, one: dict[str, Any]) -> None:
    if wanted.json:
        show.out(one)
        return
    why = reasons(one)
    place = f", {one['position']} in the queue" if one.get("position") else ""
    kind = ", a rehearsal: its servers are not there" if one.get("rehearsal") else ""
    print(f"{one['name']} is {one['state']}{place}{kind} ({one['id']}){why and f': {why}'}")
