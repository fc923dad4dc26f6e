"""Spans: one trace from HTTP to the last fact, nearly free where the trace is not sampled."""

import random
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import Token
from types import TracebackType
from typing import Any

from mesh_contracts.units import drawn_hex
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    get_current_span,
    set_span_in_context,
)

from meshkit import semconv

LINKS_MAX = 128
"""Links kept of one span: a batch span links this many of its messages."""

_TRACEPARENT = re.compile(r"^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$")
_NOTHING = NonRecordingSpan(INVALID_SPAN_CONTEXT)


class _Tracing:
    """Where spans go: nowhere until telemetry has started."""

    tracer: Tracer | None = None
    ratio: float = 1.0


TRACING = _Tracing()


class _Spanned(AbstractContextManager[Span]):
    """A block within a span, which is ended with the block."""

    __slots__ = ("_owned", "_span", "_token")

    def __init__(self, span: Span, *, owned: bool, attached: Context | None) -> None:
        self._span = span
        self._owned = owned
        self._token: Token[Context] | None = None if attached is None else attach(attached)

    def __enter__(self) -> Span:
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            detach(self._token)
        if not self._owned:
            return
        if kind is not None:
            # The type alone: a message may quote what a customer wrote.
            self._span.set_attribute(semconv.ERROR_TYPE, kind.__qualname__)
            if issubclass(kind, Exception):
                self._span.set_status(Status(StatusCode.ERROR, kind.__qualname__))
        self._span.end()


def span(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: str | None = None,
    links: list[str] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> AbstractContextManager[Span]:
    """Run a block within a span.

    ``parent`` and ``links`` are traceparents; without a parent the current span is. A parent that
    is unsampled makes an unrecorded span. An exception that leaves the block is named in the span by its type, and goes on.
    """
    if parent is not None:
        remote = parsed(parent)
        if remote is not None:
            held: Span = NonRecordingSpan(remote)
            context = set_span_in_context(held)
            if TRACING.tracer is None or not remote.trace_flags.sampled:
                return _Spanned(held, owned=False, attached=context)
            return _begin(name, kind, context, links, attributes)
    current = get_current_span()
    known = current.get_span_context()
    if TRACING.tracer is None or (known.is_valid and not known.trace_flags.sampled):
        return _Spanned(current if known.is_valid else _NOTHING, owned=False, attached=None)
    return _begin(name, kind, get_current(), links, attributes)


def _begin(
    name: str,
    kind: SpanKind,
    context: Context,
    links: list[str] | None,
    attributes: Mapping[str, Any] | None,
) -> _Spanned:
    assert TRACING.tracer is not None
    linked = [Link(known) for text in (links or ())[:LINKS_MAX] if (known := parsed(text)) is not None]
    begun = TRACING.tracer.start_span(
        name,
        context=context,
        kind=kind,
        links=linked or None,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    )
    return _Spanned(begun, owned=True, attached=set_span_in_context(begun, context))


def traceparent() -> str | None:
    """Return the current span's traceparent, or nothing outside of one."""
    known = get_current_span().get_span_context()
    if not known.is_valid:
        return None
    return f"00-{known.trace_id:032x}-{known.span_id:016x}-{int(known.trace_flags):02x}"


def trace_id() -> str | None:
    """Return the current trace's id (32 hex digits), or nothing outside of one."""
    known = get_current_span().get_span_context()
    return f"{known.trace_id:032x}" if known.is_valid else None


def trace_context() -> tuple[bytes, bytes]:
    """Return the current trace's and span's ids as bytes, empty outside of one."""
    known = get_current_span().get_span_context()
    if not known.is_valid:
        return b"", b""
    return known.trace_id.to_bytes(16, "big"), known.span_id.to_bytes(8, "big")


def edge_parent(incoming: str | None, *, kept: bool | None = None) -> str | None:
    """Return a stranger's traceparent with the sampling drawn anew, or nothing where it is not one.

    Whoever calls from outside may say which trace a request belongs to, never whether we keep it:
    that was drawn already (``kept``), or is drawn here.
    """
    known = None if incoming is None else parsed(incoming)
    if known is None:
        return None
    if kept is None:
        kept = random.random() < TRACING.ratio  # noqa: S311 - a sample, not a secret
    flags = "01" if kept else "00"
    return f"00-{known.trace_id:032x}-{known.span_id:016x}-{flags}"


def unkept(incoming: str | None) -> str:
    """Return the traceparent of a span that nobody keeps: of a stranger's trace, or of a new one."""
    known = None if incoming is None else parsed(incoming)
    drawn = drawn_hex(48)
    trace = drawn[:32] if known is None else f"{known.trace_id:032x}"
    return f"00-{trace}-{drawn[32:]}-00"


class Sampler:
    """Says which traces are kept: ``TRACING.ratio`` of them, and at most so many a second."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._left = per_s
        self._at = 0.0

    def keeps(self, now: float) -> bool:
        """Tell whether the trace that begins ``now`` (monotonic seconds) is kept."""
        if TRACING.tracer is None or (TRACING.ratio < 1.0 and random.random() >= TRACING.ratio):  # noqa: S311
            return False
        self._left = min(self._per_s, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def parsed(text: str) -> SpanContext | None:
    """Return the span a traceparent names, or nothing where it names none."""
    match = _TRACEPARENT.match(text)
    if match is None:
        return None
    trace, parent, flags = (int(part, 16) for part in match.groups())
    known = SpanContext(
        trace, parent, is_remote=True, trace_flags=TraceFlags(flags & TraceFlags.SAMPLED)
    )
    return known if known.is_valid else None
