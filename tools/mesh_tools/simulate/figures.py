"""What a simulation has measured, as one object and in words."""

import asyncio
from collections import Counter
from typing import Any, Final

import msgspec

from mesh_tools.simulate.watcher import Watcher

SAMPLE_EVERY_S: Final = 1.0
BREACHES_SHOWN: Final = 20


class Samples:
    """How much of the GPUs is held, once a second: a mean, and now."""

    def __init__(self, watcher: Watcher, milli: int) -> None:
        self._watcher, self._milli = watcher, milli
        self._sum = self._count = 0

    def now_pct(self) -> float:
        """Return how much of all GPUs is held now, in percent."""
        return round(100 * self._watcher.held_milli / self._milli, 2)

    def mean_pct(self) -> float:
        """Return the mean of what was seen so far."""
        return round(100 * self._sum / max(1, self._count) / self._milli, 2)

    async def take(self) -> None:
        """Look once a second, until cancelled."""
        while True:
            self._sum += self._watcher.held_milli
            self._count += 1
            await asyncio.sleep(SAMPLE_EVERY_S)


class Figures(msgspec.Struct, kw_only=True):
    """What there is to say of one simulation."""

    gpus: int
    nodes: int
    seed: int
    speed: float
    load: float
    sizes: str
    fault_times: float
    simulated_h: float = 0.0
    interrupted: bool = False
    joined_s: float = 0.0
    filled_s: float = 0.0
    allocation_mean_pct: float = 0.0
    allocation_end_pct: float = 0.0
    asks: int = 0
    turned_away: int = 0
    placed: int = 0
    queued: int = 0
    refused: int = 0
    reasons: dict[str, int] = {}
    waiting_at_end: int = 0
    wait_p50_s: float | None = None
    wait_p99_s: float | None = None
    ask_p50_ms: float | None = None
    ask_p99_ms: float | None = None
    succeeded: int = 0
    failed: int = 0
    preempted: int = 0
    members_begun: int = 0
    members_moved: int = 0
    members_restarted: int = 0
    failures: dict[str, int] = {}
    nodes_lost: int = 0
    nodes_cordoned: int = 0
    silence_suspected: int = 0
    breaker_tripped: int = 0
    decisions: int = 0
    decisions_per_s: float = 0.0
    decisions_peak_per_s: int = 0
    heartbeats: int = 0
    facts_told: int = 0
    quiet: bool = False
    breaches: int = 0
    breaches_said: list[str] = []

    @property
    def sound(self) -> bool:
        """Whether nothing was that must not be, and all came to rest so that it could be looked at."""
        return self.quiet and not self.breaches


def between(values: list[float], part: float, scale: float = 1.0) -> float | None:
    """Return what so large a part of the values does not pass; nothing of none."""
    if not values:
        return None
    return round(sorted(values)[min(len(values) - 1, int(len(values) * part))] * scale, 2)


def told_of(heard: Counter[str]) -> dict[str, int]:
    """Return the figures that follow from what placement told."""
    return {
        "preempted": heard["job.preempted"],
        "nodes_lost": heard["node.lost"],
        "nodes_cordoned": heard["node.cordoned"],
        "silence_suspected": heard["silence.suspected"],
        "breaker_tripped": heard["breaker.tripped"],
    }


def words(found: Figures) -> str:
    """Return the figures for people."""
    reasons = ", ".join(f"{why} ({many})" for why, many in found.reasons.items()) or "none"
    failures = ", ".join(f"{kind} {many}" for kind, many in sorted(found.failures.items()))
    failures = failures or "none"
    lines = {
        "": (
            f"{found.gpus} GPUs on {found.nodes} nodes, {found.simulated_h:g} hours",
            f"{found.speed:g} simulated seconds in a real one",
            f"seed {found.seed}",
            f"load {found.load:g}",
            f"sizes: {found.sizes}",
            *(["interrupted"] if found.interrupted else []),
        ),
        "time": (
            "arrivals, run times, starts, stops, failures and repairs are simulated",
            "heartbeats, silence limits and all that placement does are real",
        ),
        "allocation": (
            f"{found.allocation_mean_pct} % of GPUs in the mean",
            f"{found.allocation_end_pct} % at the end",
        ),
        "asks": (
            f"{found.asks}, of them placed {found.placed}, queued {found.queued}, refused {found.refused}",
            f"{found.turned_away} more did not ask, as too many waited",
            f"{found.waiting_at_end} wait at the end",
        ),
        "why not": (reasons,),
        "waits": (
            f"p50 {_or_none(found.wait_p50_s)} s, p99 {_or_none(found.wait_p99_s)} s, simulated, until all members run",
            f"p50 {_or_none(found.ask_p50_ms)} ms, p99 {_or_none(found.ask_p99_ms)} ms, real, for an answer",
        ),
        "jobs": (
            f"{found.succeeded} ended well",
            f"{found.failed} failed for good",
            f"{found.preempted} times one gave way",
        ),
        "members": (
            f"{found.members_begun} begun",
            f"{found.members_moved} begun again elsewhere",
            f"{found.members_restarted} where they were",
        ),
        "failures": (
            f"{failures}, at {found.fault_times:g} times the published rates",
            f"{found.nodes_lost} nodes lost",
            f"{found.nodes_cordoned} cordoned",
            f"breaker tripped {found.breaker_tripped} times",
            f"silence suspected {found.silence_suspected} times",
        ),
        "decisions": (
            f"{found.decisions_per_s} a second in the simulated time",
            f"{found.decisions_peak_per_s} in the busiest second",
            f"{found.decisions} in all",
            f"nodes joined within {found.joined_s} s",
            f"filled within {found.filled_s} s",
        ),
        "agents": (f"{found.heartbeats} heartbeats", f"{found.facts_told} facts"),
        "breaches": (
            str(found.breaches),
            *([] if found.quiet else ["it did not come to rest, and could not be looked at"]),
        ),
    }
    said = [f"{label:11} {'; '.join(parts)}".strip() for label, parts in lines.items()]
    return "\n".join([*said, *(f"  {one}" for one in found.breaches_said[:BREACHES_SHOWN])])


def _or_none(value: float | None) -> Any:
    return "none" if value is None else value
