"""The side that asks: an envelope, one request, a typed answer or a typed problem."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from mesh_contracts import wire
from mesh_contracts.ask import Ask, Principal, Problem, subject_of_ask
from mesh_contracts.fact import tag_of
from mesh_contracts.units import new_id
from opentelemetry.trace import SpanKind

from meshkit import semconv
from meshkit.errors import MessageTooLarge, PermissionsViolation, Unavailable
from meshkit.principal import seal
from meshkit.replies import Reply
from meshkit.telemetry import METRICS, span, traceparent

if TYPE_CHECKING:
    from meshkit.bus import Bus

ERROR = "Nats-Service-Error"
ERROR_CODE = "Nats-Service-Error-Code"
RETRY_AFTER_S = 2


def wish(
    bus: "Bus",
    principal: Principal | str,
    *,
    timeout_s: float,
    idempotency_key: str | None,
    site: str | None,
) -> dict[str, Any]:
    """Return the envelope of an ask, to be answered within ``timeout_s``."""
    now = bus.clock.now()
    return {
        "ask_id": new_id("ask"),
        "asked_at": now,
        "deadline": now + timedelta(seconds=timeout_s),
        "principal": principal if isinstance(principal, str) else seal(principal, bus.secret),
        "site": bus.site if site is None else site,
        "idempotency_key": idempotency_key,
        "traceparent": traceparent(),
    }


async def ask(bus: "Bus", ask: Ask, owner: str | None) -> Any | Problem:
    """Return the typed answer or a problem; never raises for the peer's sake."""
    tag = tag_of(type(ask))
    subject = subject_of_ask(type(ask), ask.site, owner)
    asked = owner or subject.split(".")[1]
    attributes = {
        semconv.MESSAGING_SYSTEM: semconv.MESSAGING_SYSTEM_NATS,
        semconv.MESSAGING_DESTINATION_TEMPLATE: f"ask.{tag}.{{site}}",
        semconv.MESH_ASK_TAG: tag,
    }
    with span(f"ask {tag}", kind=SpanKind.CLIENT, parent=ask.traceparent, attributes=attributes) as at:
        traced = msgspec.structs.replace(ask, traceparent=traceparent() or ask.traceparent)
        answer = await _ask(bus, traced, subject, asked)
        outcome = answer.code if isinstance(answer, Problem) else "answered"
        at.set_attribute(semconv.MESH_OUTCOME, outcome)
        METRICS.count("mesh_asks_sent_total", tag=tag, outcome=outcome)
        return answer


async def _ask(bus: "Bus", ask: Ask, subject: str, asked: str) -> Any | Problem:
    answer = await _answer(bus, ask, subject, asked)
    if isinstance(answer, Problem):
        return answer
    try:
        if answer.block is not None and ERROR_CODE in answer.headers:
            return wire.decode(answer.data, Problem)
        return wire.decode(answer.data, type(ask).reply)
    except msgspec.DecodeError:
        return Problem(
            title="The answer could not be read",
            status=502,
            code="bad_answer",
            detail=f"{asked} answered in a form that is unknown here; upgrade whichever is older",
        )


async def _answer(bus: "Bus", ask: Ask, subject: str, asked: str) -> Reply | Problem:
    left_s = (ask.deadline - bus.clock.now()).total_seconds()
    if left_s <= 0:
        return _late(asked)
    try:
        answer = await bus.request(subject, wire.encode(ask), within_s=left_s)
    except MessageTooLarge as fault:
        return Problem(
            title="The request is too large", status=413, code="too_large", detail=f"Send less: {fault}"
        )
    except PermissionsViolation:
        return _unavailable(
            asked, "this process may not ask it; its rights on the bus must be declared"
        )
    except Unavailable as fault:
        if isinstance(fault.__cause__, TimeoutError):
            return _late(asked)
        return _unavailable(asked, str(fault))
    return _unavailable(asked, "nobody answers") if answer.status else answer


def _unavailable(asked: str, why: str) -> Problem:
    return Problem(
        title="Not available now",
        status=503,
        code="unavailable",
        detail=f"{asked} cannot be asked now ({why}); try again in a moment",
        retry_after_s=RETRY_AFTER_S,
    )


def _late(asked: str) -> Problem:
    return Problem(
        title="The deadline passed",
        status=504,
        code="deadline_exceeded",
        detail=f"{asked} did not answer in time; with an idempotency key the same can be asked again",
        retry_after_s=RETRY_AFTER_S,
    )
