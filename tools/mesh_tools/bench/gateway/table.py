"""What ``mesh bench gateway`` prints for people: one table, then each promise beside what was measured."""

from collections.abc import Mapping
from typing import Any

import msgspec

from mesh_tools.bench.gateway import words
from mesh_tools.bench.gateway.machine import AIMED_JSON_US

COLUMNS = (
    ("req/s 1", "rps_c1", ",.0f"),
    ("req/s 32", "rps_c32", ",.0f"),
    ("req/s 128", "rps_c128", ",.0f"),
    ("µs/req", "cpu_us_per_request", ",.0f"),
    ("+p50 ms", "added_p50_ms", ".2f"),
    ("+p99 ms", "added_p99_ms", ".2f"),
    ("+first ms", "added_first_chunk_ms", ".2f"),
    ("µs/event", "us_per_event", ",.1f"),
    ("events/s", "events_per_s", ",.0f"),
    ("RSS MB", "rss_mb", ",.0f"),
    ("32 KB req/s", "rps_large", ",.0f"),
)


class Promise(msgspec.Struct, frozen=True):
    """A bound that must hold and one to stretch for; ``beside`` names whose rate it is a ratio to."""

    words: str
    figure: str
    must: float | None
    stretch: float
    beside: str = ""

    def said(self, value: float) -> str:
        """Return what became of it."""
        if self._holds(value, self.stretch):
            return "stretch holds"
        if self.must is None:
            return "short of the stretch"
        return "holds" if self._holds(value, self.must) else "FALLS SHORT"

    def _holds(self, value: float, bound: float) -> bool:
        return value >= bound if self.beside else value <= bound


PROMISES = (
    Promise("req/s of 32 clients, times LiteLLM", "rps_c32", 60, 100, "litellm"),
    Promise("req/s of 32 clients, times Portkey", "rps_c32", 8, 12, "portkey"),
    Promise("req/s of 32 clients, times TensorZero", "rps_c32", None, 1, "tensorzero"),
    Promise("CPU µs a request", "cpu_us_per_request", 120, 90),
    Promise("CPU µs an event, 128 paced streams", "us_per_event", 25, 15),
    Promise("added ms to the first chunk", "added_first_chunk_ms", 1, 0.5),
    Promise("RSS MB", "rss_mb", 150, 90),
    Promise("chunks lost in 128 paced streams", "chunks_lost_in_paced", 0, 0),
)


PACED = (
    ("cpu_us_per_request", "µs a request"),
    ("us_per_event", "µs an event"),
    ("added_first_chunk_ms", "ms to the first chunk"),
)
"""What is said once more as it would be at the pace of the machine where the aims were set."""


def show(found: Mapping[str, Any]) -> None:
    """Print the table, the reasons of what is not in it, and the promises."""
    machine, cores = found["machine"], found["machine"]["cores"]
    print(
        f"{found['date']} · {machine['cpu']}, {machine['count']} cores, Python {machine['python']}; 1 send and 1"
        f" receive: {machine['socket_pass_us']:.1f} µs; rounds: "
        f"{found['rounds']}, medians{'; QUICK: windows too short to quote' if found['quick'] else ''}"
    )
    print(
        f"each gateway on core {cores['gateway']}, the mock on {cores['mock']}, the callers on"
        f" {cores['load']}, what ours needs besides (NATS, Postgres, services) on"
        f" {', '.join(map(str, cores['services']))};"
    )
    print(
        f"{words.SMALL_BYTES}-byte chats; streams of {words.TOKENS} chunks, paced at 2 ms; added: beyond"
        " the mock asked directly; ours with keys, limits, routing, metering, telemetry"
    )
    targets = found["targets"]
    print(f"\n{'':24}" + "".join(f"{head:>12}" for head, _, _ in COLUMNS))
    for name, one in targets.items():
        label = f"{name} {one.get('version', '')}"[:24]
        if "reason" in one:
            print(f"{label:24}  not measured: {one['reason']}")
            continue
        print(f"{label:24}" + "".join(f"{_cell(one[key], form):>12}" for _, key, form in COLUMNS))
    for name, one in targets.items():
        for line in _troubles(one):
            print(f"  {name}: {line}")
    _promises(found)


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _troubles(one: Mapping[str, Any]) -> list[str]:
    if "reason" in one:
        return []
    lines = []
    if one["chunks_expected"] != one["chunks_seen"]:
        lines.append(f"{one['chunks_seen']:,} of {one['chunks_expected']:,} chunks came")
    if one["cut"]:
        lines.append(f"{one['cut']} answers had not ended long after the window")
    if one["errors"]:
        lines.append(f"errors {one['errors']}, the first: {one['first_error'][:200]}")
    without = [what for what, status in one.get("limits", {}).items() if status >= 300]
    if without:
        lines.append(f"this version has no {', no '.join(without)}")
    return lines


def _promises(found: Mapping[str, Any]) -> None:
    ours = found["targets"].get("ours", {"reason": "not asked for"})
    if "reason" in ours:
        return
    print()
    for promise in PROMISES:
        value = (
            found["ratios"].get(promise.beside, {}).get(promise.figure)
            if promise.beside
            else ours[promise.figure]
        )
        if value is not None:
            bounds = f"must {'-' if promise.must is None else f'{promise.must:g}'}, stretch {promise.stretch:g}"
            print(f"  {promise.words:42} {value:>9,.2f}   {bounds:26} {promise.said(value)}")
    slower = found["machine"]["json_us"] / AIMED_JSON_US
    said = ", ".join(f"{ours[figure] / slower:,.2f} {unit}" for figure, unit in PACED)
    print(
        f"\n  Python reads a chat as JSON in {found['machine']['json_us']:.2f} µs here, in {AIMED_JSON_US} µs where"
        f" the aims were set: {slower:.1f} times slower.\n  Divided by that: {said}."
    )


def show_flat(tenths: list[dict[str, float]]) -> None:
    """Print what the gateway held after each tenth of a long run."""
    print(f"\nmemory of ours over {tenths[-1]['requests']:,.0f} requests")
    for tenth in tenths:
        print(
            f"  {tenth['requests']:>12,.0f}  {tenth['rss_mb']:>8.1f} MB  {tenth['rps']:>9,.0f} req/s"
            f"  {tenth.get('errors', 0):>7,.0f} errors  {tenth.get('in_ledger', 0):>12,.0f} in the ledger,"
            f" {tenth.get('ledger_s', 0):.0f} s later"
        )
    # The first tenth warms it up: what grows after it is growth.
    print(f"  growth after the first tenth: {tenths[-1]['rss_mb'] - tenths[1]['rss_mb']:+.1f} MB")
