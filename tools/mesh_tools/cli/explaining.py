"""``mesh endpoint explain``: where something would go, on the site as it is or as it might become."""

import argparse
from typing import Any

from mesh_tools.cli import show
from mesh_tools.cli.show import field, reasons
from mesh_tools.cli.terms import ISOLATION, NEAR, SHAPE, shape, terms
from mesh_tools.cli.verbs import argument, door


def lost(text: str) -> dict[str, Any]:
    """Return a part of the site that is gone: ``rack=r1``, ``node=n1``. Raises ``ValueError``."""
    level, there, domain = text.partition("=")
    if not (level and there and domain):
        raise ValueError(text)
    return {"change": "lose", "level": level, "domain": domain}


def capped(text: str) -> dict[str, Any]:
    """Return a cap: ``rack=r1=9000``, ``rack=r1=none``. Raises ``ValueError``."""
    level, domain, watts = text.split("=")
    many = None if watts == "none" else int(watts)
    return {"change": "cap", "level": level, "domain": domain, "watts": many}


def added(text: str) -> dict[str, Any]:
    """Return nodes that are added, like one that there is: ``500=n1``. Raises ``ValueError``."""
    many, there, like = text.partition("=")
    if not (there and like):
        raise ValueError(text)
    return {"change": "add", "nodes": int(many), "like": like}


OPTIONS = (
    *SHAPE,
    argument("--members", "so many members, all or none (1)", type=int, default=1),
    *NEAR,
    ISOLATION,
    argument(
        "--lose",
        "as if this were gone: rack=r1 or node=n1; may be repeated",
        type=lost,
        action="append",
        dest="changes",
    ),
    argument(
        "--cap",
        "as if this were capped: rack=r1=9000, or =none; may be repeated",
        type=capped,
        action="append",
        dest="changes",
    ),
    argument(
        "--add",
        "as if there were so many nodes more like one: 500=n1; may be repeated",
        type=added,
        action="append",
        dest="changes",
    ),
)


def explain(wanted: argparse.Namespace) -> None:
    """Print what each constraint left over, where it would go, and what the changes would do."""
    body = {**shape(wanted), **terms(wanted)}
    if wanted.members != 1:
        body["members"] = wanted.members
    if wanted.isolation != "none":
        body["isolation"] = wanted.isolation
    if wanted.changes:
        body["changes"] = wanted.changes
    told = door(wanted).call("POST", "/api/v1/placements:explain", body)
    if wanted.json:
        show.out(told)
        return
    columns = [("constraint", field("code")), ("nodes left", field("count")), ("", field("detail"))]
    show.table(told["survivors"], columns, "there are no nodes")
    nodes = sorted({seat["node"] for seat in told.get("seats") or []}) or [told.get("node")]
    where = ", ".join(str(node) for node in nodes)
    print(f"it would go to {where}" if told["fits"] else f"it fits nowhere: {reasons(told)}")
    for one in told.get("displaced") or []:
        place = f"goes to {', '.join(one['nodes'])}" if one["fits"] else "has no place any more"
        print(f"{one['kind']} {one['id']} {place}")
    for one in told.get("breaches") or []:
        print(f"{one['level']} {one['domain']} is {one['over_w']} W above its cap")
