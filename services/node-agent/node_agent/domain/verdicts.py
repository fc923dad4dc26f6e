"""Verdicts of checks together."""

from collections.abc import Iterable
from typing import Literal

from mesh_contracts.node import Check, Device, Verdict

Level = Literal["quick", "standard", "deep"]
"""How thoroughly a device is checked: gpuprobe's levels."""

_RANK: dict[Verdict, int] = {"pass": 0, "warn": 1, "inconclusive": 2, "fail": 3}


DETAIL_CHARS_MAX = 1_500


def of_device(
    name: str, device: Device, verdict: Verdict, detail: str, action: str, **evidence: int
) -> Check:
    """Return what is told of a device beside what the health kernels found; of a rehearsed one it says so."""
    return Check(
        name=name,
        device_id=device.device_id,
        verdict=verdict,
        backend="numpy" if device.rehearsal else "cupy",
        rehearsal=device.rehearsal,
        took_ms=0,
        detail=labelled(detail, rehearsal=device.rehearsal),
        action=action,
        evidence=dict(evidence),
    )


def labelled(detail: str, *, rehearsal: bool) -> str:
    """Return a check's words, with what a rehearsal's begin with, cut to what a fact may hold."""
    return (("rehearsal: " if rehearsal else "") + detail)[:DETAIL_CHARS_MAX]


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of them; a pass where there are none: what is not there cannot be broken."""
    return max(verdicts, key=_RANK.__getitem__, default="pass")
