"""``POST /v1/responses`` answered: a chat completion turned into OpenAI's Responses shape, whole.

What an engine does not tell is null. Where the shape knows no null (the parts of its usage), a count
that is not reported stands as 0.
"""

from typing import Any

import msgspec

from inference_gateway.domain.dialects.chat import (
    Choice,
    Usage,
    call_id,
    completions,
    encode,
    suffix_of,
)
from inference_gateway.domain.dialects.reading import fields_of
from inference_gateway.domain.faults import Fault

Json = dict[str, Any]

ECHOED: Json = {
    "instructions": None,
    "max_output_tokens": None,
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": None,
    "top_p": None,
    "user": None,
    "metadata": {},
}
"""What of a request its response repeats, and what stands there where it was left out."""

NEVER: Json = {
    "background": False,
    "conversation": None,
    "max_tool_calls": None,
    "previous_response_id": None,
    "prompt": None,
    "store": False,
    "truncation": "disabled",
}
"""What is the same in every response: nothing is stored, shortened, or made in the background."""

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why an answer is not complete, by the engine's reason for its end."""

PREFIXES = {"reasoning": "rs", "message": "msg", "function_call": "fc"}


def item_id(kind: str, request_id: str, place: int) -> str:
    """Return the id of an output item: derived, so that it never differs within an answer."""
    return f"{PREFIXES[kind]}_{suffix_of(request_id)}_{place}"


def status_of(finish_reason: str | None) -> str:
    """Return how an answer that ended so, and its last item, stand."""
    return "incomplete" if finish_reason in INCOMPLETE else "completed"


def reasoning(id_: str, text: str | None, status: str) -> Json:
    """Return an item of thoughts; ``text`` is None before the first."""
    content = [] if text is None else [reasoning_part(text)]
    return {"type": "reasoning", "id": id_, "summary": [], "content": content, "status": status}


def message(id_: str, parts: list[Json], status: str) -> Json:
    """Return an item of words."""
    return {"type": "message", "id": id_, "role": "assistant", "content": parts, "status": status}


def function_call(id_: str, call: str, name: str, arguments: str, status: str) -> Json:
    """Return an item that calls a tool."""
    return {
        "type": "function_call",
        "id": id_,
        "call_id": call,
        "name": name,
        "arguments": arguments,
        "status": status,
    }


def reasoning_part(text: str) -> Json:
    """Return thoughts as a part of their item."""
    return {"type": "reasoning_text", "text": text}


def text_part(text: str, likelihoods: list[Json]) -> Json:
    """Return words as a part of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": likelihoods}


def refusal_part(text: str) -> Json:
    """Return the words with which a model refuses, as a part of a message."""
    return {"type": "refusal", "refusal": text}


def likelihoods_of(choice: Choice) -> list[Json]:
    """Return the log probabilities of an answer's tokens in this shape."""
    return [
        {
            **_likelihood(token),
            "top_logprobs": [_likelihood(one) for one in token.get("top_logprobs") or []],
        }
        for token in choice.likelihoods
    ]


def _likelihood(token: Json) -> Json:
    return {
        "token": token.get("token") or "",
        "bytes": token.get("bytes") or [],
        "logprob": token.get("logprob"),
    }


def usage_of(usage: Usage | None) -> Json | None:
    """Return what was counted in this shape; nothing where nothing was."""
    if usage is None:
        return None
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached or 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.thought or 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


class Frame:
    """What is the same in a response from its first event to its last."""

    def __init__(self, asked: bytes, name: str, request_id: str, now_s: int) -> None:
        fields = fields_of(asked)
        self._same: Json = {
            "id": f"resp_{suffix_of(request_id)}",
            "object": "response",
            "created_at": now_s,
            "model": name,
            **{field: fields.get(field, default) for field, default in ECHOED.items()},
            **NEVER,
        }

    def response(
        self,
        status: str,
        output: list[Json],
        *,
        usage: Usage | None = None,
        error: Json | None = None,
        finish_reason: str | None = None,
    ) -> Json:
        """Return the response as it stands."""
        why = INCOMPLETE.get(finish_reason or "")
        return {
            **self._same,
            "status": status,
            "error": error,
            "incomplete_details": {"reason": why} if why else None,
            "output": output,
            "usage": usage_of(usage),
        }


def whole(asked: bytes, answer: bytes, name: str, request_id: str, now_s: int) -> bytes:
    """Return a chat completion as the response to ``asked``.

    Raises one of ``UNREADABLE`` where it is of another shape.
    """
    completion = completions.decode(answer)
    choice = completion.first
    if choice is None:
        raise msgspec.ValidationError("a completion without a choice")
    status = status_of(choice.finish_reason)
    response = Frame(asked, name, request_id, now_s).response(
        status,
        _output(choice, request_id, status),
        usage=completion.usage,
        finish_reason=choice.finish_reason,
    )
    return encode(response)


def _output(choice: Choice, request_id: str, status: str) -> list[Json]:
    """Return the items of an answer: what was thought, said and called. Only the last may be incomplete."""
    said = choice.message
    output: list[Json] = []

    def fresh(kind: str) -> str:
        return item_id(kind, request_id, len(output))

    if said.thoughts:
        output.append(reasoning(fresh("reasoning"), said.thoughts, "completed"))
    parts = [text_part(said.content, likelihoods_of(choice))] if said.content else []
    if said.refusal:
        parts.append(refusal_part(said.refusal))
    if parts:
        output.append(message(fresh("message"), parts, "completed"))
    for place, call in enumerate(said.tool_calls or []):
        id_ = call_id(call.id, request_id, place)
        function = call.function
        output.append(
            function_call(
                fresh("function_call"), id_, function.name or "", function.arguments or "", "completed"
            )
        )
    if output:
        output[-1]["status"] = status
    return output


def refusal(fault: Fault, request_id: str) -> bytes:  # noqa: ARG001 - other dialects say it in the body
    """Return a refusal in OpenAI's envelope."""
    return fault.body()
