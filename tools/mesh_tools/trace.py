"""``mesh trace ID``: one request's spans as a tree, from the files that services write.

Imports the standard library only: the first line is out within 0.3 s.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mesh_tools.cli import where

REQUEST_ATTRIBUTE = "mesh.request_id"
LINE_BYTES_MAX = 256 * 1024
SPANS_MAX = 10_000
"""Spans read of one trace; further ones are counted, not shown."""

SHOWN = ("error.type", "mesh.outcome", "mesh.delivery_count", "http.response.status_code")
"""Attributes shown beside a span."""


class Span(NamedTuple):
    """One line of a trace file."""

    span_id: str
    parent_id: str | None
    name: str
    service: str
    start_ns: int
    end_ns: int
    status: str
    attributes: dict[str, Any]


def main(argv: list[str]) -> int:
    """Print the trace of a request or trace id; return 0, or 1 where nothing is known of it."""
    parser = argparse.ArgumentParser(prog="mesh trace", description=__doc__.splitlines()[0])
    parser.add_argument("id", help="a request id (x-request-id) or a trace id of 32 hex digits")
    parser.add_argument("--data", help="the data folder of a running `mesh up` (.mesh)")
    parser.add_argument(
        "--wait", default=0.0, type=float, metavar="SECONDS", help="wait for it to appear"
    )
    parser.add_argument("--json", action="store_true", help="print the spans as JSON")
    asked = parser.parse_args(argv)
    folder = where.data_folder(asked.data) / "traces"
    if not folder.is_dir():
        print(
            f"mesh trace: no traces in {folder}: name the folder of `mesh up` with --data",
            file=sys.stderr,
        )
        return 1
    until = time.monotonic() + asked.wait
    while True:
        trace_id, spans = find(folder, asked.id)
        if spans or time.monotonic() >= until:
            break
        time.sleep(0.1)
    if not spans:
        print(
            f"mesh trace: nothing is known of {asked.id} in {folder}: it was not sampled, is not yet"
            " written (try --wait 2), or was long ago",
            file=sys.stderr,
        )
        return 1
    if asked.json:
        print(json.dumps({"trace_id": trace_id, "spans": [span._asdict() for span in spans]}))
    else:
        print("\n".join(tell(trace_id, spans)))
    return 0


def find(folder: Path, wanted: str) -> tuple[str, list[Span]]:
    """Return the trace id that ``wanted`` stands for, and its spans by start; none where unknown."""
    trace_id = wanted if _is_trace_id(wanted) else _trace_of_request(folder, wanted)
    if not trace_id:
        return "", []
    spans: dict[str, Span] = {}
    for found in _lines_with(folder, f'"trace_id":"{trace_id}"'):
        if found.get("trace_id") == trace_id and len(spans) < SPANS_MAX:
            spans[found["span_id"]] = Span(**{field: found[field] for field in Span._fields})
    return trace_id, sorted(spans.values(), key=lambda span: (span.start_ns, -span.end_ns))


def tell(trace_id: str, spans: list[Span]) -> Iterator[str]:
    """Yield the lines of a tree: what, by whom, when it began and how long it took, in ms."""
    began = min(span.start_ns for span in spans)
    ended = max(span.end_ns for span in spans)
    services = {span.service for span in spans}
    yield (f"trace {trace_id}  {len(spans)} spans  {len(services)} services  {_ms(ended - began)} ms")
    known = {span.span_id for span in spans}
    below: dict[str | None, list[Span]] = {}
    for span in spans:
        below.setdefault(span.parent_id if span.parent_id in known else None, []).append(span)
    rows = list(_rows(below, None, ""))
    width = max(len(branch) + len(span.name) for branch, span in rows)
    names = max(len(span.service) for _, span in rows)
    for branch, span in rows:
        mark = "!" if span.status == "error" else " "
        lost = "  (its parent is not here)" if span.parent_id and span.parent_id not in known else ""
        yield (
            f"{mark} {branch}{span.name:<{width - len(branch)}}  {span.service:<{names}}"
            f"  {_ms(span.start_ns - began):>9}  {_ms(span.end_ns - span.start_ns):>9}{_notes(span)}{lost}"
        ).rstrip()


def _rows(
    below: dict[str | None, list[Span]], parent: str | None, lead: str
) -> Iterator[tuple[str, Span]]:
    children = below.get(parent, [])
    for child in children:
        last = child is children[-1]
        if parent is None:
            yield "", child
            yield from _rows(below, child.span_id, "")
        else:
            yield f"{lead}{'└─ ' if last else '├─ '}", child
            yield from _rows(below, child.span_id, f"{lead}{'   ' if last else '│  '}")


def _notes(span: Span) -> str:
    notes = [f"{name}={span.attributes[name]}" for name in SHOWN if name in span.attributes]
    return "  " + " ".join(notes) if notes else ""


def _trace_of_request(folder: Path, request_id: str) -> str:
    for found in _lines_with(folder, json.dumps(request_id)):
        if found.get("attributes", {}).get(REQUEST_ATTRIBUTE) == request_id:
            return str(found["trace_id"])
    return ""


def _lines_with(folder: Path, text: str) -> Iterator[dict[str, Any]]:
    needle = text.encode()
    for path in sorted(folder.glob("*.jsonl")):
        try:
            with path.open("rb") as file:
                yield from _read(file, needle)
        except FileNotFoundError:
            continue


def _read(lines: Iterable[bytes], needle: bytes) -> Iterator[dict[str, Any]]:
    for line in lines:
        # A line that is being written right now is cut short: it is whole next time.
        if needle in line and len(line) <= LINE_BYTES_MAX and line.endswith(b"\n"):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found


def _is_trace_id(text: str) -> bool:
    return len(text) == 32 and all(digit in "0123456789abcdef" for digit in text)


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.1f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
