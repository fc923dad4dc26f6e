"""``mesh budget|limit``: what an organization, a project, a key or an endpoint may spend and ask for."""

import argparse
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any

from mesh_tools.cli import show
from mesh_tools.cli.door import Door, Refused, part
from mesh_tools.cli.show import Column, euros, field
from mesh_tools.cli.verbs import Verbs, argument, door

KINDS = {"org": "organization", "project": "project", "key": "key", "endpoint": "endpoint"}
"""What the beginning of an id says."""

MICRO = 1_000_000


def scope(text: str) -> dict[str, str]:
    """Return what is meant by an id, ``project/NAME`` or ``organization/NAME``. Raises ``ValueError``."""
    kind, said, name = text.partition("/")
    if said and name and kind in KINDS.values():
        return {"kind": kind, "id": name}
    kind, said, _ = text.partition("_")
    if not said or kind not in KINDS:
        raise ValueError(text)
    return {"kind": KINDS[kind], "id": text}


def amount(text: str) -> int:
    """Return euros in micro-euros. Raises ``ValueError`` for what is none, or finer than that."""
    try:
        micro = Decimal(text) * MICRO
        if not micro.is_finite() or micro < 0 or micro != int(micro):
            raise ValueError(text)
    except InvalidOperation as fault:
        raise ValueError(text) from fault
    return int(micro)


SCOPE = argument(
    "scope", "whose: an id, or project/NAME, or organization/NAME", type=scope, metavar="SCOPE"
)


def verbs(noun: str) -> Verbs:
    """Return the verbs of one of this module's nouns."""
    made = Verbs(noun, "list")
    if noun == "budget":
        made.add("list", list_budgets, "budgets: what is spent, what gateways hold, how far it is")
        made.add(
            "set",
            set_budget,
            "give a scope a budget, instead of the one it has",
            SCOPE,
            argument("amount", "euros a period, like 12.50", type=amount, metavar="EUROS"),
            argument("--period", "day, month (default) or total", default="month"),
            argument("--soft", "say when it is passed, and refuse nothing", action="store_true"),
            argument("--warn", "say, too, at so many percent (80)", type=int, default=80),
        )
        made.add(
            "delete",
            delete_budget,
            "let a scope have no budget",
            argument("budget", "its id, or its scope"),
        )
        made.add("holders", list_holdings, "what each gateway holds of budgets, those gone among them")
        made.add(
            "release",
            release_holding,
            "free what a gateway holds that is gone for good, its journal with it",
            argument("gateway", "its id, as `mesh budget holders` shows it"),
        )
    else:
        made.add("list", list_limits, "limits")
        made.add(
            "set",
            set_limit,
            "give a scope limits, instead of those it has; what is left out is unlimited",
            SCOPE,
            argument("--requests", "requests a minute", type=int),
            argument("--tokens", "tokens a minute", type=int),
            argument("--parallel", "requests at one time", type=int),
        )
        made.add(
            "delete",
            delete_limit,
            "let a scope have no limits",
            argument("limit", "their id, or their scope"),
        )
    return made


def list_budgets(wanted: argparse.Namespace) -> None:
    """Print the budgets."""
    columns = [
        ("scope", field("scope_id")),
        ("name", field("name")),
        ("EUR", euros("amount_microeur")),
        ("a", field("period")),
        ("spent", euros("spent_microeur")),
        ("held", euros("leased_microeur")),
        ("kind", lambda one: "hard" if one["hard"] else "soft"),
        ("crossed", field("crossed")),
        ("id", field("id")),
    ]
    _list(wanted, "budgets", columns, "no budgets yet: mesh budget set project/NAME EUROS")


def set_budget(wanted: argparse.Namespace) -> None:
    """Set a scope's budget."""
    body = {
        "scope": wanted.scope,
        "amount_microeur": str(wanted.amount),
        "period": wanted.period,
        "hard": not wanted.soft,
        "warn_percent": wanted.warn,
    }
    made = door(wanted).call("POST", "/api/v1/budgets", body)
    if wanted.json:
        show.out(made)
        return
    spent = euros("spent_microeur")(made)
    word = "hard" if made["hard"] else "soft"
    print(f"set: {word} budget of {made['scope_id']}, {spent} EUR of it spent ({made['id']})")


def delete_budget(wanted: argparse.Namespace) -> None:
    """Delete a budget."""
    _gone(wanted, "budgets", wanted.budget)


def list_holdings(wanted: argparse.Namespace) -> None:
    """Print what gateways hold."""
    columns = [
        ("gateway", field("id")),
        ("epoch", field("epoch")),
        ("budgets", field("scopes")),
        ("held EUR", euros("held_microeur")),
        ("leases until", field("lives_until")),
    ]
    items = door(wanted).items("/api/v1/holdings")
    if wanted.json:
        show.out({"items": items})
    else:
        show.table(items, columns, "no gateway holds anything of a budget")


def release_holding(wanted: argparse.Namespace) -> None:
    """Free what a gateway holds."""
    was = door(wanted).call("DELETE", f"/api/v1/holdings/{part(wanted.gateway)}")
    if wanted.json:
        show.out(was)
    else:
        print(f"free again: {euros('held_microeur')(was)} EUR that {was['id']} held")


def list_limits(wanted: argparse.Namespace) -> None:
    """Print the limits."""
    columns = [
        ("scope", field("scope_id")),
        ("name", field("name")),
        ("requests/min", field("requests_per_minute")),
        ("tokens/min", field("tokens_per_minute")),
        ("at once", field("parallel_requests")),
        ("id", field("id")),
    ]
    _list(wanted, "limits", columns, "no limits yet: mesh limit set project/NAME --requests N")


def set_limit(wanted: argparse.Namespace) -> None:
    """Set a scope's limits."""
    said = {
        "requests_per_minute": wanted.requests,
        "tokens_per_minute": wanted.tokens,
        "parallel_requests": wanted.parallel,
    }
    body = {"scope": wanted.scope, **{name: one for name, one in said.items() if one is not None}}
    made = door(wanted).call("POST", "/api/v1/limits", body)
    if wanted.json:
        show.out(made)
    else:
        print(f"set: limits of {made['scope_id']} ({made['id']})")


def delete_limit(wanted: argparse.Namespace) -> None:
    """Delete a scope's limits."""
    _gone(wanted, "limits", wanted.limit)


def _list(wanted: argparse.Namespace, what: str, columns: list[Column], empty: str) -> None:
    at = door(wanted)
    items = at.items(f"/api/v1/{what}")
    if wanted.json:
        show.out({"items": items})
    else:
        show.table(_with_names(at, items), columns, empty)


def _with_names(at: Door, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the items, each with its scope's name where the caller may see that."""
    known: dict[str, str] = {}
    for kind in sorted({one["scope_kind"] for one in items}):
        with suppress(Refused):
            for one in at.items(f"/api/v1/{kind}s"):
                known[one["id"]] = _whole_name(one) if kind == "project" else one["name"]
    return [{**one, "name": known.get(one["scope_id"])} for one in items]


def _gone(wanted: argparse.Namespace, what: str, said: str) -> None:
    at = door(wanted)
    gone = at.call("DELETE", f"/api/v1/{what}/{part(_id_of(at, what, said))}")
    if wanted.json:
        show.out(gone)
    else:
        print(f"deleted: {gone['id']} of {gone['scope_id']}")


def _id_of(at: Door, what: str, said: str) -> str:
    """Return the id of what a scope has, said as in ``set``; any other text is an id already."""
    try:
        meant = scope(said)
    except ValueError:
        return said
    ids = {meant["id"]}
    if meant["id"] != said:
        named = at.items(f"/api/v1/{meant['kind']}s")
        ids = {one["id"] for one in named if meant["id"] in {one["name"], _whole_name(one)}}
    found = [one["id"] for one in at.items(f"/api/v1/{what}") if one["scope_id"] in ids]
    if len(found) != 1:
        many = "several scopes are called so: name one by its id" if found else "it has none"
        raise Refused(f"{said}: {many}; mesh {what.removesuffix('s')} list shows what there is")
    return str(found[0])


def _whole_name(one: dict[str, Any]) -> str:
    return f"{one.get('organization', '')}/{one['name']}"
