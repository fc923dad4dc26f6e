"""``POST /v1/messages`` read: Anthropic's Messages body turned into one of chat completions.

``cache_control`` marks what engines find for themselves, ``is_error`` says what a tool's own words say,
and a budget for thinking has no counterpart: these are heard and go no further. Thinking is switched
on and off by the template variable ``enable_thinking``. Every field that is not understood is the
engine's and passes through untouched.
"""

from typing import Any

import msgspec

from inference_gateway.domain.dialects.messages_blocks import Block, messages_of
from inference_gateway.domain.dialects.reading import (
    Fields,
    Refused,
    decoded,
    missing,
    refuse_any,
    rest_of,
    unsupported,
)
from inference_gateway.domain.faults import Fault

PATH = "/v1/messages"

UNSUPPORTED = {
    "container": "No code runs here; leave out 'container'.",
    "mcp_servers": "No tools run here; call the MCP servers yourself and leave out 'mcp_servers'.",
    "inference_geo": "Where a request is answered is the project's policy; leave out 'inference_geo'.",
    "diagnostics": "There are no diagnostics of the prompt cache here; leave out 'diagnostics'.",
    "user_profile_id": "There are no user profiles here; leave out 'user_profile_id'.",
    "workspace_id": "The workspace is the key's project; leave out 'workspace_id'.",
    "response_format": "'response_format' belongs to /v1/chat/completions; send 'output_config.format'.",
}
CLEARS_THINKING = "clear_thinking_"
"""Edits of the context that ask for what templates do anyway: to leave out earlier thoughts."""

CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class Turn(msgspec.Struct, frozen=True):
    """A message of the conversation."""

    role: str
    content: str | list[Block]


class _Tool(msgspec.Struct, frozen=True):
    name: str
    type: str | None = None
    description: str | None = None
    input_schema: msgspec.Raw = msgspec.Raw(b"null")
    strict: bool | None = None


class _Choice(msgspec.Struct, frozen=True):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Thinking(msgspec.Struct, frozen=True):
    type: str
    budget_tokens: int | None = None
    display: str | None = None


class _Format(msgspec.Struct, frozen=True):
    type: str
    schema: msgspec.Raw


class _Output(msgspec.Struct, frozen=True):
    effort: str | None = None
    format: _Format | None = None


class _Metadata(msgspec.Struct, frozen=True):
    user_id: str | None = None


class _Edit(msgspec.Struct, frozen=True):
    type: str = ""


class _Context(msgspec.Struct, frozen=True):
    edits: list[_Edit] = []


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is understood here."""

    model: str
    messages: list[Turn]
    system: str | list[Block] | None = None
    max_tokens: int | None = None
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tools: list[_Tool] | None = None
    tool_choice: _Choice | None = None
    thinking: _Thinking | None = None
    output_config: _Output | None = None
    output_format: _Format | None = None
    metadata: _Metadata | None = None
    context_management: _Context | None = None
    cache_control: Any = None
    service_tier: str | None = None
    speed: str | None = None
    betas: list[str] | None = None
    n: int | None = None
    stream_options: Any = None


PASSED = ("model", "max_tokens", "stream", "temperature", "top_p", "top_k")
UNDERSTOOD = frozenset(_Asked.__struct_fields__) - frozenset(PASSED)
_asked = msgspec.json.Decoder(_Asked)


def read(raw: bytes) -> bytes | Fault:
    """Return the body of chat completions that asks the same, or a refusal that names the field."""
    try:
        asked, fields = decoded(raw, _asked)
        _refuse(asked, fields)
        body = rest_of(fields, UNDERSTOOD)
        body["messages"] = messages_of(
            asked.system, [(turn.role, turn.content) for turn in asked.messages]
        )
        body |= _bounds(asked, fields)
        body |= _tools(asked)
    except Refused as refused:
        return refused.fault
    if asked.stream:
        body["stream_options"] = {"include_usage": True}
    return msgspec.json.encode(body)


def _refuse(asked: _Asked, fields: Fields) -> None:
    """Raise ``Refused`` for what cannot be done here."""
    refuse_any(fields, UNSUPPORTED)
    if not asked.messages:
        raise missing("messages", PATH)
    if asked.n not in {None, 1}:
        raise unsupported("n", "A message is one answer; leave out 'n'.")
    if asked.speed not in {None, "standard"}:
        raise unsupported("speed", "There is one speed here; leave out 'speed'.")
    edits = asked.context_management.edits if asked.context_management else []
    if not all(edit.type.startswith(CLEARS_THINKING) for edit in edits):
        raise unsupported(
            "context_management",
            "The context is not shortened here; send as 'messages' what the model shall see.",
        )
    if asked.thinking is not None and asked.thinking.display == "omitted":
        raise unsupported(
            "thinking.display", "Thinking is shown where there is any; leave out 'thinking.display'."
        )


def _bounds(asked: _Asked, fields: Fields) -> dict[str, Any]:
    """Return where the answer ends, in which form it is, and how hard the model may think."""
    body: dict[str, Any] = {}
    if asked.stop_sequences:
        body["stop"] = asked.stop_sequences
    if asked.metadata is not None and asked.metadata.user_id is not None:
        body["user"] = asked.metadata.user_id
    output = asked.output_config or _Output()
    if output.effort is not None:
        body["reasoning_effort"] = output.effort
    form = output.format or asked.output_format
    if form is not None:
        if form.type != "json_schema":
            raise unsupported(
                "output_config.format.type", "The form of an answer is 'json_schema'; choose it."
            )
        schema = {"name": "output", "schema": form.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    thinking = asked.thinking.type if asked.thinking else None
    if thinking in {"enabled", "disabled"}:
        given = msgspec.json.decode(fields.get("chat_template_kwargs", b"{}"))
        if isinstance(given, dict):
            body["chat_template_kwargs"] = {"enable_thinking": thinking == "enabled", **given}
    return body


def _tools(asked: _Asked) -> dict[str, Any]:
    """Return the functions that the model may call, and how freely it chooses among them."""
    if not asked.tools:
        return {}
    for place, tool in enumerate(asked.tools):
        if tool.type not in {None, "custom"}:
            raise unsupported(
                f"tools[{place}].type",
                f"No tool of type '{(tool.type or '')[:40]}' is known here; "
                "describe it yourself, with an 'input_schema'.",
            )
    body: dict[str, Any] = {
        "tools": [{"type": "function", "function": _function(tool)} for tool in asked.tools]
    }
    choice = asked.tool_choice
    if choice is None:
        return body
    if choice.disable_parallel_tool_use is not None:
        body["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    if choice.type == "tool":
        body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice.type in CHOICES:
        body["tool_choice"] = CHOICES[choice.type]
    else:
        raise unsupported(
            "tool_choice.type", "A choice of tools is 'auto', 'any', 'tool' or 'none'; choose one."
        )
    return body


def _function(tool: _Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if bytes(tool.input_schema) != b"null":
        function["parameters"] = tool.input_schema
    if tool.strict is not None:
        function["strict"] = tool.strict
    return function
