"""``POST /v1/messages`` answered: a chat completion turned into Anthropic's message, whole or streamed.

Blocks stream one after the other, as in Anthropic's own streams: the pieces of a second tool call wait
until the first is whole, which is when the engine says why it ended. A stream learns its counts at its
end, so its first event says 0 and its last but one says all; a plain answer that an engine did not count
says 0, for the shape knows no null there. ``stop_sequence`` is null where the engine
does not say which ended it, and thoughts carry an empty signature: nobody signs them.
"""

from typing import Any

import msgspec

from inference_gateway.domain.dialects.chat import (
    Budget,
    Calls,
    Choice,
    Completion,
    ToolCall,
    Usage,
    call_id,
    completions,
    encode,
    event,
    suffix_of,
)
from inference_gateway.domain.faults import Fault

STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""Anthropic's words for the engine's reason of an end."""

ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}
OVERLOADED = frozenset({"overloaded", "queue_full"})
"""Codes of refusals that say: too much is asked of all of us, not of this key."""

Json = dict[str, Any]


def whole(asked: bytes, answer: bytes, name: str, request_id: str, now_s: int) -> bytes:  # noqa: ARG001 - the shape has no time and repeats nothing
    """Return a chat completion as a message.

    Raises one of ``UNREADABLE`` where it is of another shape, or calls a tool with what is no JSON.
    """
    completion = completions.decode(answer)
    choice = completion.first
    if choice is None:
        raise msgspec.ValidationError("a completion without a choice")
    said = choice.message
    blocks: list[Json] = []
    if said.thoughts:
        blocks.append({"type": "thinking", "thinking": said.thoughts, "signature": ""})
    blocks += [_text(text) for text in (said.content, said.refusal) if text]
    for place, call in enumerate(said.tool_calls or []):
        block = _tool_use(call, request_id, place, cut=choice.finish_reason == "length")
        if block is not None:
            blocks.append(block)
    stop = _stop(choice)
    counted = completion.usage or Usage()
    return encode(_message(name, request_id, blocks, stop, _counts(counted)))


def _message(
    name: str, request_id: str, blocks: list[Json], stop: tuple[str | None, str | None], usage: Json
) -> Json:
    return {
        "id": f"msg_{suffix_of(request_id)}",
        "type": "message",
        "role": "assistant",
        "model": name,
        "content": blocks,
        "stop_reason": stop[0],
        "stop_sequence": stop[1],
        "usage": usage,
    }


def _text(text: str) -> Json:
    return {"type": "text", "text": text, "citations": None}


def _tool_use(call: ToolCall, request_id: str, place: int, *, cut: bool) -> Json | None:
    """Return a call; nothing where the end of the answer cut it in two, for nobody must act on half of it."""
    arguments = (call.function.arguments or "").encode() or b"{}"
    try:
        given = msgspec.json.decode(arguments, type=dict[str, Any])
    except msgspec.DecodeError:
        if cut:
            return None
        raise
    id_ = call_id(call.id, request_id, place)
    return {"type": "tool_use", "id": id_, "name": call.function.name or "", "input": given}


def _stop(choice: Choice) -> tuple[str | None, str | None]:
    reason = choice.finish_reason
    if reason == "stop" and choice.stop_sequence is not None:
        return "stop_sequence", choice.stop_sequence
    return (None if reason is None else STOPS.get(reason, "end_turn")), None


def _counts(usage: Usage) -> Json:
    """Return what was counted: here, what was read from a cache is not part of the input."""
    cached = usage.cached
    return {
        "input_tokens": max(usage.prompt_tokens - (cached or 0), 0),
        "cache_creation_input_tokens": None,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.completion_tokens,
    }


class Speaker:
    """Says one message, event by event."""

    def __init__(self, asked: bytes, name: str, request_id: str, now_s: int) -> None:  # noqa: ARG002 - as other dialects need it
        self._name = name
        self._request_id = request_id
        self._out: list[bytes] = []
        self._blocks = 0
        self._kind: str | None = None
        self._call: int | None = None
        self._calls = Calls()
        self._waiting: dict[int, list[ToolCall]] = {}
        self._budget = Budget()
        self._usage: Usage | None = None
        self._stop: tuple[str | None, str | None] = (None, None)
        self._begun = False

    def begin(self) -> bytes:
        """Return the event before the first word."""
        if not self._begun:
            self._begun = True
            message = _message(self._name, self._request_id, [], (None, None), _counts(Usage()))
            self._out.append(event("message_start", {"message": message}))
        return self._taken()

    def part(self, chunks: list[bytes]) -> bytes:
        """Return the events that these chunks are.

        Raises one of ``UNREADABLE`` where a chunk is of another shape, and ``EventTooLong``.
        """
        read = [completions.decode(chunk) for chunk in chunks]
        for chunk in read:
            self._hear(chunk)
        return self._taken()

    def end(self) -> bytes:
        """Return the events that end a message; the counts are in the first of them."""
        self._close_all()
        delta = {"stop_reason": self._stop[0], "stop_sequence": self._stop[1]}
        counts = _counts(self._usage) if self._usage else {"output_tokens": 0}
        self._out.append(event("message_delta", {"delta": delta, "usage": counts}))
        self._out.append(event("message_stop", {}))
        return self._taken()

    def broken(self, code: str, message: str) -> bytes:
        """Return the event that ends a message which cannot go on."""
        kind = "timeout_error" if code.endswith("_timeout") else "api_error"
        error = {"type": kind, "message": message, "code": code}
        return event("error", {"error": error, "request_id": self._request_id})

    def _hear(self, chunk: Completion) -> None:
        self._usage = chunk.usage or self._usage
        choice = chunk.first
        if choice is None or self._stop[0] is not None:
            return
        said = choice.delta
        if said.thoughts:
            self._say("thinking", "thinking_delta", "thinking", said.thoughts)
        for text in (said.content, said.refusal):
            if text:
                self._say("text", "text_delta", "text", text)
        for piece in said.tool_calls or []:
            self._hear_call(self._calls.place_of(piece), piece)
        if choice.finish_reason is not None:
            self._stop = _stop(choice)
            self._close_all()

    def _say(self, kind: str, delta: str, field: str, text: str) -> None:
        if self._kind != kind:
            self._close_all()
            empty = {"type": kind, field: ""}
            self._open(kind, {**empty, "signature": ""} if kind == "thinking" else _text(""))
        self._delta({"type": delta, field: text})

    def _hear_call(self, place: int, piece: ToolCall) -> None:
        if self._kind == "tool_use" and place != self._call:
            self._budget.keep(piece.function.arguments or "")
            self._waiting.setdefault(place, []).append(piece)
            return
        if self._kind != "tool_use":
            self._close_all()
            self._call = place
            id_ = call_id(piece.id, self._request_id, place)
            name = piece.function.name or ""
            self._open("tool_use", {"type": "tool_use", "id": id_, "name": name, "input": {}})
        if piece.function.arguments:
            self._delta({"type": "input_json_delta", "partial_json": piece.function.arguments})

    def _open(self, kind: str, block: Json) -> None:
        self._kind = kind
        self._out.append(event("content_block_start", {"index": self._blocks, "content_block": block}))

    def _delta(self, delta: Json) -> None:
        self._out.append(event("content_block_delta", {"index": self._blocks, "delta": delta}))

    def _close(self) -> None:
        if self._kind is not None:
            self._out.append(event("content_block_stop", {"index": self._blocks}))
            self._kind = self._call = None
            self._blocks += 1

    def _close_all(self) -> None:
        """Close the open block, and say the calls that waited for its end."""
        self._close()
        waiting, self._waiting = self._waiting, {}
        for place, pieces in waiting.items():
            for piece in pieces:
                self._hear_call(place, piece)
            self._close()

    def _taken(self) -> bytes:
        taken, self._out = b"".join(self._out), []
        return taken


def refusal(fault: Fault, request_id: str) -> bytes:
    """Return a refusal in Anthropic's envelope; our code stands beside its type."""
    if fault.code in OVERLOADED:
        kind = "overloaded_error"
    else:
        kind = ERRORS.get(fault.status, "api_error" if fault.status >= 500 else ERRORS[400])
    error: Json = {"type": kind, "message": fault.message, "code": fault.code}
    if fault.param is not None:
        error["param"] = fault.param
    if fault.reasons:
        error["reasons"] = fault.reasons
    return encode({"type": "error", "error": error, "request_id": request_id})
