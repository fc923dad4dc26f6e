"""Verdicts of checks together."""

from collections.abc import Iterable

from mesh_contracts.node import Verdict

_RANK: dict[Verdict, int] = {"pass": 0, "warn": 1, "inconclusive": 2, "fail": 3}


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of them; a pass where there are none: what is not there cannot be broken."""
    return max(verdicts, key=_RANK.__getitem__, default="pass")
