"""A fact on its way to its stream, with the trace it belongs to."""

from typing import Final

from opentelemetry.trace import SpanKind

from meshkit import semconv
from meshkit.bus import Bus
from meshkit.telemetry import span, traceparent

SAMPLED: Final = frozenset("13579bdf")
"""Last digits of a traceparent whose trace is kept."""


async def publish_fact(
    bus: Bus, subject: str, payload: bytes, *, msg_id: str, parent: str | None
) -> int:
    """Have a fact's stream keep it; return its sequence. A kept trace gets a producer span.

    Raises ``Unavailable``, ``PermissionsViolation``, ``MessageTooLarge``; the same fact may be sent again.
    """
    if parent is None or parent[-1:] not in SAMPLED:
        headers = None if parent is None else {"traceparent": parent}
        return await bus.store(subject, payload, msg_id=msg_id, headers=headers)
    words = subject.split(".", 3)
    attributes = {
        semconv.MESSAGING_SYSTEM: semconv.MESSAGING_SYSTEM_NATS,
        semconv.MESSAGING_OPERATION_NAME: "publish",
        semconv.MESSAGING_OPERATION_TYPE: "send",
        semconv.MESSAGING_DESTINATION_NAME: words[0].upper(),
        semconv.MESSAGING_MESSAGE_ID: msg_id,
    }
    name = f"publish {'.'.join(words[:3])}"
    with span(name, kind=SpanKind.PRODUCER, parent=parent, attributes=attributes):
        here = traceparent() or parent
        return await bus.store(subject, payload, msg_id=msg_id, headers={"traceparent": here})
