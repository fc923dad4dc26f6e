"""``POST /v1/responses`` read: OpenAI's Responses body turned into one of chat completions.

Nothing is stored, so whatever leans on something stored is refused by name, and so are tools that
would run here. Every field that is not understood is the engine's and passes through untouched.
``metadata`` is given back in the answer and goes nowhere else. Thoughts are always given in plain
words: a wish for a summary, or for them encrypted, needs nothing more.
"""

from typing import Any

import msgspec

from inference_gateway.domain.dialects.reading import (
    Fields,
    Refused,
    decoded,
    missing,
    refuse_any,
    rest_of,
    unsupported,
)
from inference_gateway.domain.dialects.responses_items import Item, messages_of
from inference_gateway.domain.faults import Fault

PATH = "/v1/responses"

LOGPROBS = "message.output_text.logprobs"
INCLUDED = (LOGPROBS, "reasoning.encrypted_content")

UNSUPPORTED = {
    "previous_response_id": "Responses are not stored here; send the whole conversation as 'input'.",
    "conversation": "Conversations are not stored here; send the whole conversation as 'input'.",
    "prompt": "Prompt templates are not stored here; send 'instructions' and 'input'.",
    "context_management": "The context is not shortened here; send as 'input' what the model shall see.",
    "background_options": "Responses are not made in the background here; leave out 'background_options'.",
    "moderation": "Nothing is moderated here; leave out 'moderation'.",
    "max_tool_calls": "No tools run here; leave out 'max_tool_calls'.",
    "messages": "The field 'messages' belongs to /v1/chat/completions; send 'input'.",
    "max_tokens": "The field 'max_tokens' belongs to /v1/chat/completions; send 'max_output_tokens'.",
    "response_format": "The field 'response_format' belongs to /v1/chat/completions; send 'text.format'.",
}


class _Tool(msgspec.Struct, frozen=True):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw(b"null")
    strict: bool | None = None


class _Named(msgspec.Struct, frozen=True):
    type: str
    name: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    type: str
    name: str | None = None
    mode: str = "auto"
    tools: list[_Named] = []


class _Format(msgspec.Struct, frozen=True):
    type: str
    name: str | None = None
    description: str | None = None
    schema: msgspec.Raw = msgspec.Raw(b"null")
    strict: bool | None = None


class _Text(msgspec.Struct, frozen=True):
    format: _Format | None = None
    verbosity: str | None = None


class _Reasoning(msgspec.Struct, frozen=True):
    effort: str | None = None
    context: str | None = None
    mode: str | None = None


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is understood here."""

    model: str
    input: str | list[Item]
    instructions: str | None = None
    stream: bool | None = None
    store: bool | None = None
    background: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    parallel_tool_calls: bool | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _Choice | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None
    truncation: str | None = None
    metadata: dict[str, str] | None = None
    stream_options: dict[str, Any] | None = None
    n: int | None = None


PASSED = ("model", "stream", "temperature", "top_p", "top_logprobs")
UNDERSTOOD = frozenset(_Asked.__struct_fields__) - frozenset(PASSED)
_asked = msgspec.json.Decoder(_Asked)


def read(raw: bytes) -> bytes | Fault:
    """Return the body of chat completions that asks the same, or a refusal that names the field."""
    try:
        asked, fields = decoded(raw, _asked)
        _refuse(asked, fields)
        body = rest_of(fields, UNDERSTOOD)
        body["messages"] = messages_of(asked.input, asked.instructions)
        body |= _bounds(asked)
        body |= _tools(asked)
    except Refused as refused:
        return refused.fault
    if asked.stream:
        body["stream_options"] = {"include_usage": True}
    return msgspec.json.encode(body)


def _refuse(asked: _Asked, fields: Fields) -> None:
    """Raise ``Refused`` for what cannot be done here."""
    refuse_any(fields, UNSUPPORTED)
    if not asked.input:
        raise missing("input", PATH)
    if asked.store:
        raise unsupported(
            "store", "Responses are not stored here; set 'store' to false or leave it out."
        )
    if asked.background:
        raise unsupported(
            "background", "Responses are not made in the background here; set 'background' to false."
        )
    if asked.truncation not in {None, "disabled"}:
        raise unsupported(
            "truncation", "The input is not shortened here; set 'truncation' to 'disabled'."
        )
    if asked.n not in {None, 1}:
        raise unsupported("n", "A response is one answer; leave out 'n'.")
    for place, wish in enumerate(asked.include or []):
        if wish not in INCLUDED:
            known = "' and '".join(INCLUDED)
            raise unsupported(
                f"include[{place}]", f"Of 'include' there are '{known}' here; leave out the rest."
            )
    reasoning = asked.reasoning or _Reasoning()
    if reasoning.mode not in {None, "standard"}:
        raise unsupported(
            "reasoning.mode", "There is one mode of reasoning here; leave out 'reasoning.mode'."
        )
    if reasoning.context not in {None, "auto"}:
        raise unsupported(
            "reasoning.context",
            "Which earlier reasoning counts is for the model's template to say; leave out 'reasoning.context'.",
        )


def _bounds(asked: _Asked) -> dict[str, Any]:
    """Return how long, how likely and in which form the answer may be."""
    body: dict[str, Any] = {}
    if asked.max_output_tokens is not None:
        body["max_completion_tokens"] = asked.max_output_tokens
    if LOGPROBS in (asked.include or []) or asked.top_logprobs:
        body["logprobs"] = True
    if asked.reasoning is not None and asked.reasoning.effort is not None:
        body["reasoning_effort"] = asked.reasoning.effort
    text = asked.text or _Text()
    if text.verbosity is not None:
        body["verbosity"] = text.verbosity
    form = text.format
    if form is None or form.type == "text":
        return body
    if form.type == "json_object":
        body["response_format"] = {"type": "json_object"}
    elif form.type == "json_schema":
        schema = {
            "name": form.name,
            "description": form.description,
            "schema": form.schema,
            "strict": form.strict,
        }
        body["response_format"] = {"type": "json_schema", "json_schema": _told(schema)}
    else:
        raise unsupported(
            "text.format.type",
            "The form of a text is 'text', 'json_object' or 'json_schema'; choose one.",
        )
    return body


def _tools(asked: _Asked) -> dict[str, Any]:
    """Return the functions that the model may call, and how freely it chooses among them."""
    tools = asked.tools or []
    for place, tool in enumerate(tools):
        if tool.type != "function":
            raise unsupported(
                f"tools[{place}].type",
                f"No tool of type '{tool.type[:40]}' runs here; send tools of type 'function'.",
            )
        if not tool.name:
            raise missing(f"tools[{place}].name", PATH)
    if not tools:
        return {}
    body: dict[str, Any] = {}
    if asked.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = asked.parallel_tool_calls
    if asked.tool_choice is not None:
        body["tool_choice"], tools = _chosen(asked.tool_choice, tools)
    body["tools"] = [{"type": "function", "function": _function(tool)} for tool in tools]
    return body


def _chosen(choice: str | _Choice, tools: list[_Tool]) -> tuple[Any, list[_Tool]]:
    """Return how freely the model chooses, and among what."""
    if isinstance(choice, str):
        return choice, tools
    if choice.type == "function":
        return {"type": "function", "function": {"name": choice.name}}, tools
    if choice.type != "allowed_tools":
        raise unsupported(
            "tool_choice.type",
            f"No tool of type '{choice.type[:40]}' runs here; choose one of type 'function'.",
        )
    # Engines know no such choice: those that are not allowed are not shown.
    names = {named.name for named in choice.tools}
    allowed = [tool for tool in tools if tool.name in names]
    if not allowed:
        raise unsupported("tool_choice.tools", "None of 'tools' is allowed; name one that is there.")
    return choice.mode, allowed


def _function(tool: _Tool) -> dict[str, Any]:
    return _told(
        {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
            "strict": tool.strict,
        }
    )


def _told(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that were told."""
    return {
        name: value
        for name, value in fields.items()
        if value is not None and not (isinstance(value, msgspec.Raw) and bytes(value) == b"null")
    }
