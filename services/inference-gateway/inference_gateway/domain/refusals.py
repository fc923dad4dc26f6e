"""What an engine's trouble means for the client: what to say, and whether another replica may be asked."""

import re

import msgspec

from inference_gateway.domain.faults import INVALID, UNREADABLE, Fault, unavailable

CODES = ("exceed_context_size_error", "not_supported_error")
"""What of an engine's words may be a code, and so stand in a ledger; the rest is for the client alone, since
an engine may repeat the prompt in any of its fields."""

CALLERS_OWN = ("too large to process", "input is not supported")
"""What the built-in engine says, as a failure of its own, of a body that no replica could answer."""


class Refusal(msgspec.Struct, frozen=True):
    """Why a replica gave no answer; ``elsewhere`` where another may be asked."""

    fault: Fault
    elsewhere: bool


class _Error(msgspec.Struct, frozen=True):
    message: str = ""
    type: str | None = None
    param: str | None = None


class _Said(msgspec.Struct, frozen=True):
    error: _Error | None = None


def journal_full() -> Fault:
    """Return the refusal of a request whose usage could not be kept."""
    return unavailable(
        "journal_full",
        "Usage cannot be recorded now: as much as may wait for the ledger does, which is away or behind; "
        "nothing was charged. Try again later.",
        retry_after_s=30,
    )


def unreachable(model: str) -> Fault:
    """Return the refusal where no engine could be reached."""
    return unavailable(
        "engine_unavailable",
        f"No engine of the model '{model}' could be reached; it is being replaced. Try again.",
    )


def malformed() -> Fault:
    """Return the refusal where an engine answered nonsense, or failed."""
    return unavailable("engine_failed", "The engine gave no usable answer. Send the request again.")


def unsayable() -> Fault:
    """Return the refusal of an answer that was made, and counted, but cannot be said in the shape asked for."""
    return Fault(
        status=502,
        code="engine_answer_unsayable",
        type="server_error",
        message="The engine's answer cannot be said in this shape. Ask on /v1/chat/completions instead.",
        should_retry=False,
    )


def refusal_of(status: int, raw: bytes, model: str, retry_after: bytes | None = None) -> Refusal:
    """Return what an engine's answer other than 200 means; ``raw`` is its body, or the start of it.

    ``retry_after`` is its header of that name, heeded where it holds seconds.
    """
    said = _said(raw)
    if status in {400, 413, 422}:
        return Refusal(_clients_fault(status, said), elsewhere=False)
    if status == 500 and any(words in said.message for words in CALLERS_OWN):
        # What follows its first clause advises whoever runs the engine.
        detail = re.split(r"\. | - ", said.message)[0]
        return Refusal(_clients_fault(400, _Error(message=detail)), elsewhere=False)
    if status == 429:
        busy = Fault(
            status=429,
            code="engine_busy",
            type="rate_limit_error",
            message=f"Every engine of the model '{model}' is busy. Try again in a moment.",
            retry_after_s=_seconds(retry_after),
        )
        return Refusal(busy, elsewhere=True)
    if status in {401, 403, 404, 502, 503, 504}:
        return Refusal(unreachable(model), elsewhere=True)
    return Refusal(malformed(), elsewhere=status >= 500)


def _seconds(retry_after: bytes | None) -> int:
    known = retry_after is not None and retry_after.isdigit() and len(retry_after) < 5
    return int(retry_after) if known and retry_after is not None else 1


def _said(raw: bytes) -> _Error:
    try:
        return msgspec.json.decode(raw, type=_Said).error or _Error()
    except UNREADABLE:
        return _Error()


def _clients_fault(status: int, said: _Error) -> Fault:
    detail = said.message or "The engine refused the request."
    named = said.type if said.type in CODES else INVALID
    return Fault(
        status=422 if status == 422 else 400,
        code="refused_by_engine" if named == INVALID else named,
        message=f"{detail.rstrip('.')}. Change the request before sending it again.",
        param=said.param,
    )
