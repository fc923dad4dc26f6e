"""``mesh usage|price|request|carbon``: what was used, what it cost, what it emitted."""

import argparse

from mesh_tools.cli import explained, show
from mesh_tools.cli.door import part
from mesh_tools.cli.show import euros, field
from mesh_tools.cli.verbs import Verbs, argument, door

LEDGER_WAIT_S = 10.0
RECEIPT_WAIT_S = 90.0
ID = argument("request", "the answer's x-request-id")


def verbs(noun: str) -> Verbs:
    """Return the verbs of one of this module's nouns."""
    if noun == "request":
        made = Verbs(noun, "show")
        made.add("show", request, "one request explained", ID, _wait(LEDGER_WAIT_S))
    elif noun == "usage":
        made = Verbs(noun, "list")
        since = argument("--since", "from when on (RFC 3339)")
        made.add(
            "list",
            usage,
            "tokens and cost by project and model",
            since,
            argument("--until", "until when"),
        )
    elif noun == "price":
        made = Verbs(noun, "list")
        made.add("list", prices, "the price book")
    else:
        made = Verbs(noun, "footprints")
        made.add("footprints", footprints, "energy and carbon by project")
        made.add("receipt", receipt, "a request's signed receipt, as JSON", ID, _wait(RECEIPT_WAIT_S))
        made.add("intensity", intensity, "the grid factors in use, with their sources")
        made.add("signing-key", signing_key, "the public key of receipts")
    return made


def request(wanted: argparse.Namespace) -> None:
    """Print one request's record, once it stands in the ledger."""
    told = door(wanted).patiently(f"/api/v1/requests/{part(wanted.request)}", wanted.wait)
    if wanted.json:
        show.out(told)
    else:
        print(explained.text(told))


def usage(wanted: argparse.Namespace) -> None:
    """Print the usage ledger's sums."""
    items = door(wanted).items("/api/v1/usage", since=wanted.since, until=wanted.until)
    if wanted.json:
        show.out({"items": items})
        return
    columns = [
        ("project", field("project")),
        ("model", field("model")),
        ("requests", field("requests")),
        ("prompt tokens", field("prompt_tokens")),
        ("completion tokens", field("completion_tokens")),
        ("cost EUR", euros("cost_microeur")),
        ("aborted", field("aborted")),
        ("failed", field("failed")),
    ]
    show.table(items, columns, "nothing was used yet")


def prices(wanted: argparse.Namespace) -> None:
    """Print the price book."""
    items = door(wanted).items("/api/v1/prices")
    if wanted.json:
        show.out({"items": items})
        return
    columns = [
        ("model", field("model")),
        ("EUR a Mtoken in", euros("price_microeur_per_mtoken_in")),
        ("EUR a Mtoken out", euros("price_microeur_per_mtoken_out")),
        ("from", field("valid_from")),
    ]
    show.table(items, columns, "the price book is empty")


def footprints(wanted: argparse.Namespace) -> None:
    """Print the carbon ledger's sums."""
    told = door(wanted).call("GET", "/api/v1/carbon/footprints")
    if wanted.json:
        show.out(told)
        return
    columns = [
        ("project", field("project")),
        ("requests", field("requests")),
        ("energy Wh", lambda one: show.watt_hours(one["energy_uj"])),
        ("carbon mg", lambda one: show.milligrams(one["carbon_ug"])),
        ("quality", field("quality")),
    ]
    show.table(told["items"], columns, "no request's energy is settled yet")
    energy, carbon = (
        show.watt_hours(told["operator_energy_uj"]),
        show.milligrams(told["operator_carbon_ug"]),
    )
    unserving = show.watt_hours(told.get("operator_non_serving_uj") or 0)
    print(
        f"with the operator: {energy} Wh, {carbon} mg (above idle but for no request: {unserving} Wh)"
    )


def receipt(wanted: argparse.Namespace) -> None:
    """Print a receipt, once its interval is settled: JSON always, since it is signed."""
    show.out(door(wanted).patiently(f"/api/v1/carbon/receipts/{part(wanted.request)}", wanted.wait))


def intensity(wanted: argparse.Namespace) -> None:
    """Print the factors."""
    items = door(wanted).items("/api/v1/carbon/intensity")
    if wanted.json:
        show.out({"items": items})
        return
    columns = [
        ("zone", field("zone")),
        ("mg/kWh", field("carbon_mg_per_kwh")),
        ("from", field("valid_from")),
        ("until", field("valid_until")),
        ("method", field("method")),
        ("boundary", field("boundary")),
        ("source", field("source")),
    ]
    show.table(items, columns, "no factors are known")


def signing_key(wanted: argparse.Namespace) -> None:
    """Print the public key, as JSON."""
    show.out(door(wanted).call("GET", "/api/v1/carbon/signing-key"))


def _wait(seconds: float) -> tuple[str, dict[str, object]]:
    return argument(
        "--wait", f"seconds to wait until it is there ({seconds:g})", type=float, default=seconds
    )
