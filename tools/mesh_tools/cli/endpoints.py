"""``mesh endpoint``: models served behind the gateway."""

import argparse
import time
from typing import Any

from mesh_tools.cli import show
from mesh_tools.cli.door import Door, Refused, part
from mesh_tools.cli.explaining import OPTIONS, explain
from mesh_tools.cli.leading import LEADING, SCALING, leading, scaling
from mesh_tools.cli.logs import MEMBER, logs
from mesh_tools.cli.show import age, field, reasons
from mesh_tools.cli.terms import PROJECT, SHAPE, project, shape
from mesh_tools.cli.verbs import Verbs, argument, door

POLL_S = 0.2
ENDPOINT = argument("endpoint", "its id, or its name in your project")


def verbs(noun: str) -> Verbs:
    """Return the verbs of ``endpoint``."""
    made = Verbs(noun, "list")
    made.add("list", list_endpoints, "the endpoints you see, and why they are as they are")
    made.add("get", get_endpoint, "all about one endpoint and its replicas", ENDPOINT)
    made.add(
        "create",
        create,
        "serve a model",
        argument("name", "under which name it is called"),
        PROJECT,
        argument("--model", "which model (the endpoint's name)"),
        argument("--source", "where its weights come from (builtin)", default="builtin"),
        argument(
            "--engine",
            "llama (default), vllm or external",
            default="llama",
            choices=["llama", "vllm", "external"],
        ),
        argument("--lora", "an adapter for vllm, NAME=SOURCE", action="append", default=[]),
        argument("--url", "an external engine's address"),
        argument("--embedding", "it embeds texts", action="store_true"),
        argument("--min", "replicas at least (1); 0 lets it sleep", type=int, default=1),
        argument("--max", "replicas at most (as --min, and 1 at least)", type=int),
        *SCALING,
        *LEADING,
        *SHAPE,
        argument("--wait", "seconds to wait until it serves (0)", type=float, default=0.0),
    )
    made.add(
        "scale",
        scale,
        "other bounds of replicas",
        ENDPOINT,
        argument("--min", "replicas at least", type=int, required=True),
        argument("--max", "replicas at most (as --min, and 1 at least)", type=int),
    )
    made.add(
        "change",
        change,
        "other bounds, another way of choosing replicas; what is not said stays",
        ENDPOINT,
        argument("--min", "replicas at least; 0 lets it sleep", type=int),
        argument("--max", "replicas at most", type=int),
        *SCALING,
        *LEADING,
    )
    made.add("delete", delete, "stop serving", ENDPOINT)
    made.add("logs", logs, "what its replicas printed last", ENDPOINT, MEMBER)
    made.add("explain", explain, "where one more replica would go, and why not elsewhere", *OPTIONS)
    return made


def list_endpoints(wanted: argparse.Namespace) -> None:
    """Print the endpoints."""
    items = door(wanted).items("/api/v1/endpoints")
    if wanted.json:
        show.out({"items": items})
        return
    columns = [
        ("name", field("name")),
        ("project", field("project")),
        ("state", field("state")),
        ("ready", field("ready")),
        ("wanted", field("wanted")),
        ("bounds", lambda one: "{min}..{max}".format(**{"min": 1, "max": 1, **one["replicas"]})),
        ("model", field("model", "id")),
        ("engine", lambda one: one["engine"].get("kind", "llama")),
        ("since", age("since")),
        ("reasons", reasons),
    ]
    show.table(items, columns, "no endpoints yet: mesh endpoint create NAME --model tiny")


def get_endpoint(wanted: argparse.Namespace) -> None:
    """Print one endpoint."""
    _one(wanted, _get(door(wanted), wanted.endpoint))


def _lora(text: str) -> tuple[str, str]:
    name, _, source = text.partition("=")
    if not (name and source):
        raise Refused(f"--lora {text}: write NAME=SOURCE")
    return name, source


def create(wanted: argparse.Namespace) -> None:
    """Wish for an endpoint; with ``--wait``, return once it serves."""
    engine: dict[str, Any] = {"kind": wanted.engine, "embedding": wanted.embedding}
    if wanted.url:
        engine["url"] = wanted.url
    if wanted.lora:
        engine["loras"] = dict(_lora(text) for text in wanted.lora)
    mesh = door(wanted)
    body = {
        "name": wanted.name,
        **project(wanted, mesh),
        "model": {"id": wanted.model or wanted.name, "source": wanted.source},
        "engine": engine,
        "replicas": {**_replicas(wanted), **scaling(wanted)},
        **shape(wanted),
    }
    routing = {**leading(wanted), **({"loras": [*engine["loras"]]} if wanted.lora else {})}
    if routing:
        body["routing"] = routing
    made = mesh.call("POST", "/api/v1/endpoints", body)
    until = time.monotonic() + wanted.wait
    while made["state"] != "serving" and time.monotonic() < until:
        time.sleep(POLL_S)
        made = _get(mesh, made["id"])
    if wanted.wait and made["state"] != "serving":
        raise Refused(
            f"{made['name']} is still {made['state']}: {reasons(made) or 'no reason is given'}"
        )
    _changed(wanted, made)


def scale(wanted: argparse.Namespace) -> None:
    """Change the bounds, provided nobody else changed the endpoint meanwhile."""
    mesh = door(wanted)
    before = _get(mesh, wanted.endpoint)
    _change(wanted, mesh, before, {"replicas": {**before.get("replicas", {}), **_replicas(wanted)}})


def change(wanted: argparse.Namespace) -> None:
    """Change what was said, provided nobody else changed the endpoint meanwhile."""
    mesh = door(wanted)
    before = _get(mesh, wanted.endpoint)
    bounds = {name: given for name in ("min", "max") if (given := getattr(wanted, name)) is not None}
    said = {"replicas": {**bounds, **scaling(wanted)}, "routing": leading(wanted)}
    body = {name: {**before.get(name, {}), **fields} for name, fields in said.items() if fields}
    if not body:
        raise Refused("say what is to change: mesh endpoint change --help lists it")
    _change(wanted, mesh, before, body)


def delete(wanted: argparse.Namespace) -> None:
    """Wish that it stops."""
    mesh = door(wanted)
    before = _get(mesh, wanted.endpoint)
    gone = mesh.call("DELETE", f"/api/v1/endpoints/{part(before['id'])}")
    if gone:
        _changed(wanted, gone)
    else:
        print(f"{before['name']} is stopping")


def _get(mesh: Door, name: str) -> dict[str, Any]:
    found: dict[str, Any] = mesh.call("GET", f"/api/v1/endpoints/{part(name)}")
    return found


def _change(
    wanted: argparse.Namespace, mesh: Door, before: dict[str, Any], body: dict[str, Any]
) -> None:
    path, if_match = f"/api/v1/endpoints/{part(before['id'])}", {"if-match": str(before["generation"])}
    _changed(wanted, mesh.call("PATCH", path, body, if_match))


def _replicas(wanted: argparse.Namespace) -> dict[str, int]:
    return {"min": wanted.min, "max": max(wanted.min, 1) if wanted.max is None else wanted.max}


def _changed(wanted: argparse.Namespace, endpoint: dict[str, Any]) -> None:
    if wanted.json:
        show.out(endpoint)
        return
    why = reasons(endpoint)
    print(f"{endpoint['name']} is {endpoint['state']} ({endpoint['id']}){why and f': {why}'}")


def _one(wanted: argparse.Namespace, value: dict[str, Any]) -> None:
    if wanted.json:
        show.out(value)
    else:
        show.facts(value)
