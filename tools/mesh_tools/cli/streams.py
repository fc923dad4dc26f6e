"""``mesh events|dead-letter``: what happened, and what could not be handled."""

import argparse
import json
from typing import Any

from mesh_tools.cli import show
from mesh_tools.cli.door import part, with_query
from mesh_tools.cli.show import age, field
from mesh_tools.cli.verbs import Verbs, argument, door

LIMIT = 100
OWNERS = ("identity", "placement", "metering", "carbon")


def verbs(noun: str) -> Verbs:
    """Return the verbs of one of this module's nouns."""
    if noun == "events":
        made = Verbs(noun, "list")
        options = (
            argument("--after", "a cursor: what came after it"),
            argument("--types", "only these types, separated by commas"),
            argument("--project", "only this project's (an id)"),
        )
        limit = argument("--limit", f"at most so many ({LIMIT})", type=int, default=LIMIT)
        made.add("list", list_events, "a page of events", *options, limit)
        made.add("follow", follow, "events as they come; Ctrl-C ends it", *options)
        return made
    made = Verbs(noun, "list")
    made.add(
        "list",
        list_letters,
        "facts that a service gave up on",
        argument("--owner", "only this service's"),
    )
    owner = argument("owner", "which service", choices=OWNERS)
    made.add("redrive", redrive, "handle a fact once more", owner, argument("id", "its number"))
    return made


def list_events(wanted: argparse.Namespace) -> None:
    """Print a page of events and the cursor to go on from."""
    page = door(wanted).call("GET", _path(wanted, limit=wanted.limit))
    if wanted.json:
        show.out(page)
        return
    columns = [
        ("time", field("time")),
        ("type", field("type")),
        ("subject", field("subject")),
        ("project", lambda event: (event.get("data") or {}).get("project")),
    ]
    show.table(page["items"], columns, "no events")
    if page.get("next"):
        print(f"go on with: mesh events --after {page['next']}")


def follow(wanted: argparse.Namespace) -> None:
    """Print events as they come, one line each."""
    for cursor, data in door(wanted).events(_path(wanted), {}):
        if wanted.json:
            print(data, flush=True)
            continue
        event = json.loads(data)
        print(f"{event.get('time')}  {event.get('type')}  {event.get('subject')}  {cursor}", flush=True)


def list_letters(wanted: argparse.Namespace) -> None:
    """Print the dead letters of one service, or of all."""
    mesh = door(wanted)
    owners = [wanted.owner] if wanted.owner else OWNERS
    items = [one for owner in owners for one in mesh.items("/api/v1/dead-letters", owner=owner)]
    if wanted.json:
        show.out({"items": items})
        return
    columns = [
        ("owner", field("reader")),
        ("id", field("dead_letter_id")),
        ("fact", field("tag")),
        ("key", field("key")),
        ("tries", field("tries")),
        ("parked", field("parked")),
        ("age", age("at")),
        ("reason", field("reason")),
    ]
    show.table(items, columns, "no dead letters")


def redrive(wanted: argparse.Namespace) -> None:
    """Wish that a fact is handled once more."""
    door(wanted).call(
        "POST", f"/api/v1/dead-letters/{part(wanted.owner)}/{part(wanted.id)}:redrive", {}
    )
    print(f"{wanted.owner} {wanted.id}: handled again")


def _path(wanted: argparse.Namespace, **more: Any) -> str:
    query = {"after": wanted.after, "types": wanted.types, "project": wanted.project, **more}
    return with_query(
        "/api/v1/events", {name: value for name, value in query.items() if value is not None}
    )
