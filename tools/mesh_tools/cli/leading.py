"""How an endpoint follows demand and how requests are led, as flags of ``mesh endpoint``."""

import argparse
from typing import Any

from mesh_tools.cli.verbs import argument


def alias(text: str) -> dict[str, Any]:
    """Return an alias of ``NAME`` or ``NAME=WEIGHT``. Raises ``ValueError`` for a weight that is no number."""
    name, said, weight = text.partition("=")
    return {"name": name, "weight": int(weight)} if said else {"name": name}


SCALING = (
    argument("--target", "requests a replica, past which one more is wished for (4)", type=int),
    argument("--up-after", "seconds that must last before one more comes (5)", type=float),
    argument("--down-after", "seconds that fewer must do before one goes (60)", type=float),
    argument("--sleep-after", "seconds without a request before the last goes (300)", type=float),
)
LEADING = (
    argument(
        "--by", "how a replica is chosen (least_load)", choices=["least_load", "prefix", "round_robin"]
    ),
    argument("--sticky", "what stays on one replica (none)", choices=["none", "session", "key"]),
    argument(
        "--alias",
        "another name that leads here; of several endpoints with it, by weight (100); may be repeated",
        action="append",
        type=alias,
        metavar="NAME[=WEIGHT]",
    ),
    argument("--fallback", "a model to ask where none here answers; may be repeated", action="append"),
    argument("--parallel-max", "requests one replica takes at once (what its engine does)", type=int),
    argument("--queue-max", "requests that may wait for a replica (256)", type=int),
)


def scaling(wanted: argparse.Namespace) -> dict[str, Any]:
    """Return what was said of following demand, as ``replicas`` holds it."""
    seconds = {"up_after_ms": wanted.up_after, "down_after_ms": wanted.down_after}
    seconds["sleep_after_ms"] = wanted.sleep_after
    said = {name: round(given * 1_000) for name, given in seconds.items() if given is not None}
    return said if wanted.target is None else {"target": wanted.target, **said}


def leading(wanted: argparse.Namespace) -> dict[str, Any]:
    """Return what was said of leading requests, as ``routing`` holds it."""
    said = {
        "by": wanted.by,
        "sticky": wanted.sticky,
        "aliases": wanted.alias,
        "fallbacks": wanted.fallback,
        "parallel_max": wanted.parallel_max,
        "queue_max": wanted.queue_max,
    }
    return {name: given for name, given in said.items() if given is not None}
