"""``mesh site maintain|maintenance``: when nodes are worked on, and what follows."""

import argparse
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from mesh_tools.cli import show
from mesh_tools.cli.door import Door, Refused, part
from mesh_tools.cli.show import field, reasons
from mesh_tools.cli.verbs import Verbs, argument, door

SITE = argument("--site", "which site (the only one)")
ENDED = argument("--ended", "also those that are over", action="store_true")
SPAN = re.compile(r"\+(\d{1,6})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
MOMENTS = "now, +30m, +2h, +1d or 2027-01-31T22:00Z (here, where it names no zone)"
NAMED_MAX = 5


def add(made: Verbs) -> None:
    """Add this module's verbs to those of ``site``."""
    made.add(
        "maintenance", list_windows, "when nodes are worked on, and what is still there", ENDED, SITE
    )
    made.add(
        "maintain",
        maintain,
        "plan to work on nodes: they are drained at the start, checked and back at the end",
        argument("node", "its name or id; several may be named", nargs="*"),
        argument("--from", f"when it begins (now): {MOMENTS}", dest="begins", default="now"),
        argument("--until", "when it ends (until it is cancelled): the same, +2h from its beginning"),
        argument("--reason", "what is done: shown wherever a node is missed"),
        argument("--cancel", "end this window instead, also one that has begun", metavar="ID"),
        SITE,
    )


def maintain(wanted: argparse.Namespace) -> None:
    """Plan a window, or cancel one, and say what follows."""
    mesh = door(wanted)
    if wanted.cancel:
        if wanted.node:
            raise Refused("--cancel takes an ID, and no nodes beside it")
        gone = mesh.call("DELETE", f"{_site(mesh, wanted)}/maintenance/{part(wanted.cancel)}")
        _say(wanted, gone, "nodes that it had taken out are checked, and take work once that passes")
        return
    if not wanted.node or not wanted.reason:
        raise Refused(
            "name nodes and a --reason, or a window with --cancel ID (mesh site maintenance lists them)"
        )
    try:
        begins = moment(wanted.begins, datetime.now(UTC))
        ends = None if wanted.until is None else moment(wanted.until, begins)
    except ValueError as fault:
        raise Refused(f"{fault} is no moment: give {MOMENTS}") from None
    body = {
        "nodes": wanted.node,
        "starts_at": begins.isoformat(),
        "ends_at": None if ends is None else ends.isoformat(),
        "reason": wanted.reason,
    }
    made = mesh.call("POST", f"{_site(mesh, wanted)}/maintenance", body)
    _say(wanted, made, _follows(made))


def list_windows(wanted: argparse.Namespace) -> None:
    """Print the windows."""
    mesh = door(wanted)
    items = mesh.items(f"{_site(mesh, wanted)}/maintenance", ended="true" if wanted.ended else None)
    if wanted.json:
        show.out({"items": items})
        return
    columns = [
        ("id", field("id")),
        ("state", field("state")),
        ("from", field("starts_at")),
        ("until", lambda one: one.get("ends_at") or "cancelled"),
        ("nodes", field("nodes")),
        ("still there", lambda one: one.get("remain_count") or 0),
        ("why", field("reason")),
        ("by", field("planned_by")),
        ("reasons", reasons),
    ]
    show.table(items, columns, "no windows: mesh site maintain NODE --until +2h --reason WORDS")


def moment(text: str, base: datetime) -> datetime:
    """Return the moment that is meant, ``+2h`` from ``base``. Raises ``ValueError`` where none is."""
    if text == "now":
        return datetime.now(UTC)
    span = SPAN.fullmatch(text)
    if span is not None:
        return base + timedelta(**{UNITS[span[2]]: int(span[1])})
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(text) from None


def _follows(made: dict[str, Any]) -> str:
    """Return in plain words what is going to happen."""
    remain = made.get("remain") or []
    leave = [one["id"] for one in remain if one["kind"] != "lease"]
    until = made.get("ends_at") or f"mesh site maintain --cancel {made['id']}"
    nodes, begins = ", ".join(made["nodes"]), made["starts_at"]
    lines = [
        f"{nodes}: what would still be there at {begins} is not placed there from now on",
        f"then they are drained, and come back after a check at {until}",
    ]
    if leave:
        count = (made.get("remain_count") or 0) - (len(remain) - len(leave))
        more = f" and {count - NAMED_MAX} more" if count > NAMED_MAX else ""
        lines.append(f"will have to leave: {', '.join(leave[:NAMED_MAX])}{more}")
    why = reasons(made)
    return "\n".join([*lines, *([why] if why else [])])


def _say(wanted: argparse.Namespace, window: dict[str, Any], what: str) -> None:
    if wanted.json:
        show.out(window)
    else:
        print(f"{window['state']}: {window['id']}\n{what}")


def _site(mesh: Door, wanted: argparse.Namespace) -> str:
    site = wanted.site or mesh.items("/api/v1/sites")[0]["id"]
    return f"/api/v1/sites/{part(site)}"
