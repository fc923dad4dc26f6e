"""From what was seen in each round to the figures of a target: medians over the rounds."""

import statistics
from collections.abc import Callable, Iterable, Sequence

from mesh_tools.bench.gateway.asked import Seen
from mesh_tools.bench.gateway.phases import Measured

DIRECT = "direct"
Rows = dict[tuple[str, str, int], Measured]
NAMES = (
    "rps_c1",
    "rps_c32",
    "rps_c128",
    "cpu_us_per_request",
    "added_p50_ms",
    "added_p99_ms",
    "added_first_chunk_ms",
    "us_per_event",
    "events_per_s",
    "rss_mb",
    "rps_large",
    "burst_events_per_s",
    "core_busy",
)
STREAMED = ("first", "paced", "burst")
RATES = ("rps_c1", "rps_c32", "rps_c128", "rps_large", "events_per_s")


def figures(measured: Sequence[Measured]) -> dict[str, dict[str, object]]:
    """Return by target its figures (nothing where they could not be had), each round's, and its faults."""
    rows: Rows = {(one.target, one.phase, one.round): one for one in measured}
    rounds = sorted({one.round for one in measured})
    shown: dict[str, dict[str, object]] = {}
    for name in dict.fromkeys(one.target for one in measured):
        each = [_of_a_round(rows, name, number) for number in rounds]
        shown[name] = {
            **{key: _median(one[key] for one in each) for key in NAMES},
            **_faults([one for one in measured if one.target == name]),
            "rounds": each,
        }
    return shown


def ratios(shown: dict[str, dict[str, object]], mine: str = "ours") -> dict[str, dict[str, float]]:
    """Return by other target how many times its rates ours are, the median of each round's own ratio."""
    found: dict[str, dict[str, float]] = {}
    for name, other in shown.items():
        if name == mine or mine not in shown:
            continue
        pairs = list(zip(_rounds(shown[mine]), _rounds(other), strict=True))
        of_rates = {
            key: _median(_over(ours[key], theirs[key]) for ours, theirs in pairs) for key in RATES
        }
        found[name] = {key: value for key, value in of_rates.items() if value is not None}
    return found


def _rounds(one: dict[str, object]) -> list[dict[str, float | None]]:
    rounds = one["rounds"]
    assert isinstance(rounds, list)
    return rounds


def _over(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours and theirs else None


def _of_a_round(rows: Rows, name: str, number: int) -> dict[str, float | None]:
    def seen(phase: str, target: str = name) -> Seen | None:
        one = rows.get((target, phase, number))
        useful = one is not None and (one.seen.events if phase in STREAMED else one.seen.answers)
        return one.seen if one is not None and useful else None

    def of(phase: str, figure: Callable[[Seen], float]) -> float | None:
        found = seen(phase)
        return None if found is None else figure(found)

    def added(phase: str, figure: Callable[[Seen], float]) -> float | None:
        found, beside = seen(phase), seen(phase, DIRECT)
        return None if found is None or beside is None else (figure(found) - figure(beside)) / 1e3

    itself = name == DIRECT
    held = [one.rss_mb for (target, _, at), one in rows.items() if target == name and at == number]
    return {
        "rps_c1": of("c1", _rps),
        "rps_c32": of("c32", _rps),
        "rps_c128": of("c128", _rps),
        "cpu_us_per_request": None if itself else of("c32", lambda one: one.cpu_s / one.answers * 1e6),
        "added_p50_ms": added("rate", lambda one: one.p50_us),
        "added_p99_ms": added("rate", lambda one: one.p99_us),
        "added_first_chunk_ms": added("first", lambda one: one.first_us),
        "us_per_event": None if itself else of("paced", lambda one: one.cpu_s / one.events * 1e6),
        "events_per_s": of("paced", _events_per_s),
        "rss_mb": None if itself else max(held),
        "rps_large": of("large", _rps),
        "burst_events_per_s": of("burst", _events_per_s),
        "core_busy": None if itself else of("c32", lambda one: one.cpu_s / one.window_s),
    }


def _rps(seen: Seen) -> float:
    return seen.answers / seen.window_s


def _events_per_s(seen: Seen) -> float:
    return seen.events / seen.window_s


def _faults(measured: Sequence[Measured]) -> dict[str, object]:
    """Return what went wrong, and what became of the chunks of every stream that ended."""
    streams = [one.seen for one in measured if one.phase in STREAMED]
    paced = [one.seen for one in measured if one.phase == "paced"]
    return {
        "chunks_expected": sum(seen.tokens_expected for seen in streams),
        "chunks_seen": sum(seen.tokens_seen for seen in streams),
        "chunks_lost_in_paced": sum(seen.tokens_expected - seen.tokens_seen for seen in paced),
        "cut": sum(one.seen.cut for one in measured),
        "errors": {
            phase: count
            for phase in dict.fromkeys(one.phase for one in measured)
            if (count := sum(one.seen.errors for one in measured if one.phase == phase))
        },
        "first_error": next((one.seen.error for one in measured if one.seen.error), ""),
    }


def _median(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return round(float(statistics.median(found)), 4) if found else None
