"""Spans in a bounded file, one JSON line each: what ``mesh trace`` reads where no collector is."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

FILE_BYTES_MAX = 8 * 1024**2
"""A file is turned at this size; one older is kept beside it."""

FILES_KEPT_MAX = 32
"""Files of processes that are gone, kept of one service."""


class FileSpanExporter(SpanExporter):
    """Writes ``<folder>/<service>-<pid>.jsonl``; a full or missing disk loses spans, nothing else."""

    def __init__(self, folder: Path, service: str) -> None:
        self._service = service
        self._path = folder / f"{service}-{os.getpid()}.jsonl"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _forget_old(folder, service)
        self._encode = msgspec.json.Encoder(enc_hook=str).encode
        self._file = self._path.open("ab", buffering=0)
        self._written = self._file.tell()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append a batch."""
        lines = b"".join(self._encode(line(span, self._service)) + b"\n" for span in spans)
        try:
            if self._written + len(lines) > FILE_BYTES_MAX:
                self._turn()
            self._written += self._file.write(lines)
        except (OSError, ValueError):
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the file."""
        self._file.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - nothing is buffered
        """Return at once: a batch is in the file when ``export`` returns."""
        return True

    def _turn(self) -> None:
        # The old file is held until there is a new one: what fails here is tried with the next batch.
        with contextlib.suppress(FileNotFoundError):
            self._path.replace(self._path.with_suffix(".1.jsonl"))
        fresh = self._path.open("ab", buffering=0)
        self._file.close()
        self._file, self._written = fresh, 0


def line(span: ReadableSpan, service: str) -> dict[str, Any]:
    """Return a span as the file keeps it: ids in hex, times in ns since 1970."""
    context = span.context
    assert context is not None
    return {
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "parent_id": f"{span.parent.span_id:016x}" if span.parent else None,
        "name": span.name,
        "kind": span.kind.name.lower(),
        "service": service,
        "start_ns": span.start_time,
        "end_ns": span.end_time,
        "attributes": dict(span.attributes or {}),
        "status": span.status.status_code.name.lower(),
        "links": [
            {"trace_id": f"{link.context.trace_id:032x}", "span_id": f"{link.context.span_id:016x}"}
            for link in span.links
        ],
    }


def _forget_old(folder: Path, service: str) -> None:
    gone = []
    for path in folder.glob(f"{service}-*.jsonl"):
        digits = path.name[len(service) + 1 :].partition(".")[0]
        if digits.isdigit() and int(digits) != os.getpid() and not _alive(int(digits)):
            gone.append(path)
    gone.sort(key=_age, reverse=True)
    for path in gone[FILES_KEPT_MAX:]:
        path.unlink(missing_ok=True)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
