"""``mesh site|cap|quota``: what a site holds, what its parts may draw, what each tenant is promised."""

import argparse
from typing import Any

from mesh_tools.cli import maintenance, show
from mesh_tools.cli.door import Door, part
from mesh_tools.cli.show import age, field, reasons
from mesh_tools.cli.verbs import Verbs, argument, door

SITE = argument("--site", "which site (the only one)")


def scope(text: str) -> dict[str, str]:
    """Return what is meant by an id, ``project/NAME`` or ``organization/NAME``. Raises ``ValueError``."""
    kind, there, name = text.partition("/")
    if there and name and kind in {"project", "organization"}:
        return {"kind": kind, "id": name}
    kind = {"project": "project", "org": "organization", "organization": "organization"}.get(
        text.partition("_")[0] if "_" in text else "", ""
    )
    if not kind:
        raise ValueError(text)
    return {"kind": kind, "id": text}


def watts(text: str) -> int | None:
    """Return watts, or nothing for ``none``. Raises ``ValueError`` for what is neither."""
    return None if text == "none" else int(text)


def domains(text: str) -> tuple[str, int]:
    """Return a GPU model and how many NVLink domains of it: ``GB200=2``. Raises ``ValueError``."""
    model, _, count = text.partition("=")
    if not model:
        raise ValueError(text)
    return model, int(count)


def verbs(noun: str) -> Verbs:
    """Return the verbs of one of this module's nouns."""
    made = Verbs(noun, "list")
    if noun == "site":
        made.add("list", list_sites, "the sites, what each offers and holds")
        made.add("get", get_site, "all about one site", argument("site", "its name"))
        made.add(
            "moves",
            show_moves,
            "what to move so that more of a shape fits",
            argument("site", "its name"),
            argument("--gpus", "whole GPUs on one node", type=int, default=0),
            argument("--gpu-milli", "thousandths of one GPU", type=int, default=0),
            argument("--mig", "a MIG instance, by its profile, like 3g.40gb"),
            argument("--gpu-model", "of which model"),
            argument("--memory-mib", "memory (256)", type=int, default=256),
            argument(
                "--isolation",
                "node: each on a node that nobody else is on, as a lease needs (none)",
                default="none",
                choices=["none", "node"],
            ),
            argument("--most", "moves at most (8)", type=int, default=8),
            argument("--make", "have these moves made now", action="store_true"),
        )
        made.add(
            "moving",
            list_moving,
            "the moves that are not over, and what each waits for",
            argument("site", "its name"),
        )
        made.add(
            "rearm",
            rearm_site,
            "let failed health checks take nodes out again",
            argument("site", "its name"),
            argument("--reason", "what you found", required=True),
        )
        maintenance.add(made)
    elif noun == "cap":
        made.add("list", list_caps, "power caps, and what each part of the site draws by plan", SITE)
        made.add(
            "set",
            set_cap,
            "cap what a part of the site draws",
            argument("level", "rack, pdu, row, hall or site"),
            argument("domain", "its name"),
            argument("watts", "how many watts; none lifts the cap", type=watts),
            SITE,
        )
    else:
        made.add("list", list_quotas, "what organizations and projects are promised, and use")
        made.add(
            "set",
            set_quota,
            "give a scope a quota, instead of the one it has",
            argument("scope", "whose: an id, project/NAME or organization/NAME", type=scope),
            argument("--gpus", "GPUs that are guaranteed (0)", type=int, default=0),
            argument(
                "--domains",
                "among them whole NVLink domains, like GB200=2; may be repeated",
                type=domains,
                action="append",
            ),
            argument(
                "--weight", "its part of what nobody guaranteed uses (100)", type=int, default=100
            ),
            argument("--max", "GPUs at most, in all (no bound)", type=int),
        )
    return made


def list_sites(wanted: argparse.Namespace) -> None:
    """Print the sites."""
    items = door(wanted).items("/api/v1/sites")
    if wanted.json:
        show.out({"items": items})
        return
    columns = [
        ("site", field("id")),
        ("countries", field("jurisdictions")),
        ("assurances", field("assurances")),
        ("gpu models", field("gpu_models")),
        ("gpus", field("gpus")),
        ("free gpu_milli", field("gpu_milli_free")),
        ("nodes", lambda one: _counts(one.get("nodes"))),
        ("jobs", lambda one: _counts(one.get("jobs"))),
        ("leases", lambda one: _counts(one.get("leases"))),
        ("planned W", field("planned_w")),
        ("cap W", field("cap_w")),
    ]
    show.table(items, columns, "no sites")


def get_site(wanted: argparse.Namespace) -> None:
    """Print one site."""
    found = door(wanted).call("GET", f"/api/v1/sites/{part(wanted.site)}")
    if wanted.json:
        show.out(found)
    else:
        show.facts(found)


def show_moves(wanted: argparse.Namespace) -> None:
    """Print which moves would make room; have them made where that was asked for."""
    resources = {
        "gpus": wanted.gpus,
        "gpu_milli": wanted.gpu_milli,
        "memory_mib": wanted.memory_mib,
    }
    if wanted.mig:
        resources["mig"] = wanted.mig
    if wanted.gpu_model:
        resources["gpu_model"] = wanted.gpu_model
    body = {"resources": resources, "moves_max": wanted.most}
    if wanted.isolation != "none":
        body["isolation"] = wanted.isolation
    found = door(wanted).call("POST", f"/api/v1/sites/{part(wanted.site)}/moves", body)
    asked = [{"id": one["id"], "to_node": one["to_node"]} for one in found["items"]]
    if wanted.make and asked:
        path = f"/api/v1/sites/{part(wanted.site)}:move"
        found["moving"] = door(wanted).call("POST", path, {"moves": asked})["items"]
    if wanted.json:
        show.out(found)
        return
    columns = [
        ("what", field("kind")),
        ("id", field("id")),
        ("from", field("from_node")),
        ("to", field("to_node")),
    ]
    show.table(found["items"], columns, "no move makes more room")
    print(f"{found['before']} fit now, {found['after']} after these moves")
    if "moving" in found:
        print(f"being made; mesh site moving {wanted.site} shows how far they are")


def list_moving(wanted: argparse.Namespace) -> None:
    """Print the moves that are not over."""
    found = door(wanted).call("GET", f"/api/v1/sites/{part(wanted.site)}/moves")
    if wanted.json:
        show.out(found)
        return
    columns = [
        ("id", field("id")),
        ("endpoint", field("endpoint")),
        ("from", field("from_node")),
        ("to", field("to_node")),
        ("state", field("state")),
        ("until", field("until")),
        ("why", lambda one: "; ".join(why["detail"] for why in one.get("reasons", []))),
    ]
    show.table(found["items"], columns, "nothing moves")


def rearm_site(wanted: argparse.Namespace) -> None:
    """Re-arm the quarantine breaker."""
    body = {"reason": wanted.reason}
    found = door(wanted).call("POST", f"/api/v1/sites/{part(wanted.site)}:rearm", body)
    if wanted.json:
        show.out(found)
    else:
        print(f"re-armed: checks may take out {found['most']} nodes in {found['window_s']} s")


def list_caps(wanted: argparse.Namespace) -> None:
    """Print the power caps."""
    mesh = door(wanted)
    items = mesh.items(f"{_site(mesh, wanted)}/caps")
    if wanted.json:
        show.out({"items": items})
        return
    columns = [
        ("level", field("level")),
        ("domain", field("domain")),
        ("cap W", field("watts")),
        ("planned W", field("planned_w")),
        ("room W", field("room_w")),
        ("since", age("since")),
        ("reasons", reasons),
    ]
    show.table(items, columns, "no caps: mesh cap set LEVEL DOMAIN WATTS")


def set_cap(wanted: argparse.Namespace) -> None:
    """Set a cap, or lift it."""
    mesh = door(wanted)
    body = {"level": wanted.level, "domain": wanted.domain, "watts": wanted.watts}
    made = mesh.call("POST", f"{_site(mesh, wanted)}/caps", body)
    if wanted.json:
        show.out(made)
        return
    where = f"{made['level']} {made['domain']}"
    if made["watts"] is None:
        print(f"lifted: {where} draws {made['planned_w']} W by plan")
        return
    why = reasons(made)
    print(f"set: {where} {made['watts']} W, {made['planned_w']} W by plan{why and f': {why}'}")


def list_quotas(wanted: argparse.Namespace) -> None:
    """Print the quotas."""
    items = door(wanted).items("/api/v1/quotas")
    if wanted.json:
        show.out({"items": items})
        return
    columns = [
        ("scope", field("scope_id")),
        ("kind", field("scope_kind")),
        ("guaranteed gpus", field("gpus")),
        ("nvlink domains", lambda one: _counts(one.get("nvlink_domains"))),
        ("weight", field("weight")),
        ("gpus at most", field("gpus_max")),
        ("used gpu_milli", field("used_gpu_milli")),
    ]
    show.table(items, columns, "no quotas yet: mesh quota set project/NAME --gpus N")


def set_quota(wanted: argparse.Namespace) -> None:
    """Set a scope's quota."""
    body = {
        "scope": wanted.scope,
        "gpus": wanted.gpus,
        "nvlink_domains": dict(wanted.domains or ()),
        "weight": wanted.weight,
        "gpus_max": wanted.max,
    }
    made = door(wanted).call("POST", "/api/v1/quotas", body)
    if wanted.json:
        show.out(made)
        return
    most = "" if made.get("gpus_max") is None else f", {made['gpus_max']} at most"
    print(f"set: {made['gpus']} GPUs of {made['scope_id']} are guaranteed{most} ({made['id']})")


def _site(mesh: Door, wanted: argparse.Namespace) -> str:
    site = wanted.site or mesh.items("/api/v1/sites")[0]["id"]
    return f"/api/v1/sites/{part(site)}"


def _counts(counts: dict[str, Any] | None) -> str | None:
    if counts is None:
        return None
    return ", ".join(f"{many} {name}" for name, many in counts.items()) or "0"
