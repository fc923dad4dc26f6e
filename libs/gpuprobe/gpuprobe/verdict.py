"""What a check says: a verdict, on what it rests, and the one thing to do about it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["pass", "warn", "fail", "inconclusive"]
BackendName = Literal["numpy", "host", "cupy"]
Evidence = dict[str, int | float | str | list[int]]
"""Numbers above 2^53 and addresses are text, in hexadecimal."""

_RANK: dict[str, int] = {"pass": 0, "warn": 1, "inconclusive": 2, "fail": 3}

REPLACE = "cordon the node; repeat the check, and replace the device where it fails again"
AGAIN = "put right what the detail names, then check again"
LATER = "check again when the device is free"
WATCH = "repeat the check at the level standard; cordon the node where it warns again"
COOL = "cordon the node; look after its cooling and power, then check again at the level standard"
CORDON = "cordon the node; its driver or device hangs: restart the server, then check again"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a probe found. ``measured`` are figures to keep for the card's history, by name."""

    verdict: Verdict
    detail: str
    action: str | None = None
    evidence: Evidence = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert (self.action is None) == (self.verdict == "pass"), "every no has one action"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of one device. ``inconclusive`` is neither: it could not be judged, see ``detail``."""

    name: str
    device: int
    verdict: Verdict
    backend: BackendName
    took_ms: int
    detail: str
    action: str | None = None
    evidence: Evidence = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the check as JSON can carry it."""
        return asdict(self)


def worse(one: Verdict, other: Verdict) -> bool:
    """Tell whether ``one`` is worse than ``other``."""
    return _RANK[one] > _RANK[other]


def worst(checks: Sequence[Check | Finding]) -> Verdict:
    """Return the worst verdict of ``checks``; without any, ``inconclusive``."""
    if not checks:
        return "inconclusive"
    return max((check.verdict for check in checks), key=_RANK.__getitem__)
