"""Bodies of Messages read into a chat: what has a counterpart is kept, what has none is named."""

import json
from typing import Any

import pytest
from inference_gateway.domain.dialects import MESSAGES
from inference_gateway.domain.faults import Fault

from tests.domain.dialect_bodies import USER, understood


def message(*turns: Any, **more: Any) -> dict[str, Any]:
    return understood(MESSAGES, {"model": "chat", "max_tokens": 9, "messages": list(turns), **more})


def test_a_system_text_and_turns_are_a_chat() -> None:
    system = [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}]
    assert message(USER, {"role": "assistant", "content": "hi"}, USER, system=system)["messages"] == [
        {"role": "system", "content": "be brief"},
        USER,
        {"role": "assistant", "content": "hi"},
        USER,
    ]


def test_thinking_calls_and_results_of_tools_are_kept() -> None:
    model = [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "ok"},
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
    ]
    user = [
        {"type": "text", "text": "and?"},
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "1"}]},
    ]
    read = message(USER, {"role": "assistant", "content": model}, {"role": "user", "content": user})
    _, said, given, asked = read["messages"]
    assert (said["content"], said["reasoning_content"]) == ("ok", "hm")
    assert json.loads(said["tool_calls"][0]["function"]["arguments"]) == {"x": 1}
    assert given == {"role": "tool", "tool_call_id": "a", "content": "1"}
    assert asked == {"role": "user", "content": "and?"}


def test_images_and_documents_keep_their_bytes_in_the_shape_of_messages() -> None:
    blocks = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {
            "type": "document",
            "title": "a.pdf",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="},
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
    ]
    (said,) = message({"role": "user", "content": blocks})["messages"]
    assert said["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {
            "type": "file",
            "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"},
        },
        {"type": "text", "text": "words"},
    ]


def test_the_bounds_of_a_message_are_said_in_the_words_of_a_chat() -> None:
    schema = {"type": "object", "properties": {}}
    read = message(
        USER,
        stop_sequences=["END"],
        temperature=0.5,
        top_k=4,
        metadata={"user_id": "u"},
        thinking={"type": "enabled", "budget_tokens": 1024},
        chat_template_kwargs={"other": 1},
        output_config={"effort": "low", "format": {"type": "json_schema", "schema": schema}},
        service_tier="auto",
        stream=True,
    )
    del read["messages"]
    assert read == {
        "model": "chat",
        "max_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True},
        "stop": ["END"],
        "temperature": 0.5,
        "top_k": 4,
        "user": "u",
        "reasoning_effort": "low",
        "chat_template_kwargs": {"enable_thinking": True, "other": 1},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "output", "schema": schema, "strict": True},
        },
    }


@pytest.mark.parametrize(
    ("choice", "read_as"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_the_tools_of_a_message_are_the_functions_of_a_chat(choice: Any, read_as: Any) -> None:
    tool = {"name": "f", "description": "d", "input_schema": {"type": "object"}}
    read = message(USER, tools=[tool], tool_choice={**choice, "disable_parallel_tool_use": True})
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    assert read["tools"] == [{"type": "function", "function": function}]
    assert read["tool_choice"] == read_as
    assert read["parallel_tool_calls"] is False


def blocks(*given: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(given)}]}


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        (
            {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
            "context_management",
        ),
        ({"speed": "fast"}, "speed"),
        ({"n": 2}, "n"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "bard", "content": "o"}]}, "messages[0].role"),
        (blocks({"type": "search_result"}), "messages[0].content[0].type"),
        (
            blocks({"type": "image", "source": {"type": "file", "file_id": "f"}}),
            "messages[0].content[0].source",
        ),
        (blocks({"type": "image"}), "messages[0].content[0].source"),
        (
            blocks({"type": "document", "source": {"type": "url", "url": "https://example.org"}}),
            "messages[0].content[0].source",
        ),
        (blocks({"type": "tool_result", "content": "1"}), "messages[0].content[0].tool_use_id"),
        (
            blocks({"type": "redacted_thinking", "data": "x"}, role="assistant"),
            "messages[0].content[0]",
        ),
        (blocks({"type": "tool_use", "name": "f"}, role="assistant"), "messages[0].content[0].id"),
        ({"max_tokens": "many"}, "max_tokens"),
        (
            {"tool_choice": {"type": "some"}, "tools": [{"name": "f", "input_schema": {}}]},
            "tool_choice.type",
        ),
    ],
)
def test_what_a_message_cannot_be_is_refused_in_one_sentence_that_names_the_field(
    more: dict[str, Any], named: str
) -> None:
    refused = MESSAGES.read(json.dumps({"model": "chat", "messages": [USER], **more}).encode())
    assert isinstance(refused, Fault)
    assert refused.param == named
    assert refused.status == 422
    assert refused.message.endswith(".")


def test_edits_that_leave_out_earlier_thinking_ask_for_what_templates_do_anyway() -> None:
    read = message(USER, context_management={"edits": [{"type": "clear_thinking_20251015"}]})
    assert "context_management" not in read
