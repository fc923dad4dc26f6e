"""What a check says: a verdict, on what it rests, and the one thing to do about it."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["pass", "warn", "fail", "inconclusive"]
BackendName = Literal["numpy", "cupy"]
Evidence = dict[str, int | float | str | list[int]]

_RANK: dict[str, int] = {"pass": 0, "warn": 1, "inconclusive": 2, "fail": 3}


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


def worst(checks: list[Check]) -> Verdict:
    """Return the worst verdict of ``checks``; without any, ``inconclusive``."""
    if not checks:
        return "inconclusive"
    return max((check.verdict for check in checks), key=_RANK.__getitem__)
