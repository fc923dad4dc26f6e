"""Bodies of Responses read into a chat: what has a counterpart is kept, what has none is named."""

import json
from typing import Any

import pytest
from inference_gateway.domain.dialects import RESPONSES
from inference_gateway.domain.faults import Fault

from tests.domain.dialect_bodies import USER, understood


def response(given: Any = "hello", **more: Any) -> dict[str, Any]:
    return understood(RESPONSES, {"model": "chat", "input": given, **more})


def test_a_text_is_the_user_s_message_and_instructions_come_first() -> None:
    assert response(instructions="be brief")["messages"] == [
        {"role": "system", "content": "be brief"},
        USER,
    ]


def test_one_turn_of_the_model_is_one_message_however_many_items_it_was() -> None:
    items = [
        USER,
        {
            "type": "reasoning",
            "id": "r",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "hm"}],
        },
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "ok", "annotations": []}],
        },
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "g", "arguments": '{"x":1}'},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {
            "type": "function_call_output",
            "call_id": "b",
            "output": [{"type": "input_text", "text": "2"}],
        },
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "3"},
    ]

    def call(id_: str, name: str, arguments: str) -> dict[str, Any]:
        return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}

    assert response(items)["messages"] == [
        USER,
        {
            "role": "assistant",
            "content": "ok",
            "reasoning_content": "hm",
            "tool_calls": [call("a", "f", "{}"), call("b", "g", '{"x":1}')],
        },
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {"role": "assistant", "content": None, "tool_calls": [call("c", "f", "{}")]},
        {"role": "tool", "tool_call_id": "c", "content": "3"},
    ]


def test_a_thought_between_calls_does_not_part_them_from_their_answers() -> None:
    def thought(text: str) -> dict[str, Any]:
        return {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": text}]}

    items = [
        thought("a"),
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        thought("b"),
        {"type": "function_call", "call_id": "b", "name": "f", "arguments": "{}"},
    ]
    (turn,) = response(items)["messages"]
    assert turn["reasoning_content"] == "ab"
    assert [call["id"] for call in turn["tool_calls"]] == ["a", "b"]


def test_images_audio_and_files_keep_their_bytes_in_the_shape_of_responses() -> None:
    parts = [
        {"type": "input_text", "text": "see"},
        {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "low"},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
        {"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"},
    ]
    (said,) = response([{"role": "user", "content": parts}])["messages"]
    assert said["content"] == [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
        {
            "type": "file",
            "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"},
        },
    ]


def test_the_bounds_of_a_response_are_said_in_the_words_of_a_chat() -> None:
    schema = {"type": "object", "properties": {}}
    read = response(
        max_output_tokens=7,
        temperature=0.5,
        top_p=0.9,
        top_logprobs=2,
        include=["message.output_text.logprobs"],
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}},
        stream=True,
        stream_options={"include_obfuscation": False},
        store=False,
        metadata={"a": "b"},
        truncation="disabled",
    )
    del read["messages"]
    assert read == {
        "model": "chat",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "logprobs": True,
        "top_logprobs": 2,
        "reasoning_effort": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": schema, "strict": True},
        },
    }


TOOL = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}
OTHER = {"type": "function", "name": "g"}


def test_the_functions_of_a_response_are_the_functions_of_a_chat() -> None:
    read = response(
        tools=[TOOL], tool_choice={"type": "function", "name": "f"}, parallel_tool_calls=False
    )
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    assert read["tools"] == [{"type": "function", "function": function}]
    assert read["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert read["parallel_tool_calls"] is False


def test_functions_that_are_not_allowed_are_not_shown() -> None:
    allowed = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "g"}],
    }
    read = response(tools=[TOOL, OTHER], tool_choice=allowed)
    assert [tool["function"]["name"] for tool in read["tools"]] == ["g"]
    assert read["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"n": 2}, "n"),
        ({"messages": [USER]}, "messages"),
        ({"include": ["file_search_call.results"]}, "include[0]"),
        ({"tools": [TOOL, {"type": "web_search"}]}, "tools[1].type"),
        ({"tools": [TOOL], "tool_choice": {"type": "mcp", "server_label": "s"}}, "tool_choice.type"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "tools": [OTHER]}},
            "tool_choice.tools",
        ),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"input": [USER, {"type": "web_search_call", "id": "w"}]}, "input[1].type"),
        ({"input": [{"role": "bard", "content": "o"}]}, "input[0].role"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            "input[0].content[0].file_id",
        ),
        (
            {"input": [{"type": "reasoning", "summary": [], "encrypted_content": "x"}]},
            "input[0].encrypted_content",
        ),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"max_output_tokens": "many"}, "max_output_tokens"),
    ],
)
def test_what_a_response_cannot_be_is_refused_in_one_sentence_that_names_the_field(
    more: dict[str, Any], named: str
) -> None:
    refused = RESPONSES.read(json.dumps({"model": "chat", "input": "hello", **more}).encode())
    assert isinstance(refused, Fault)
    assert refused.param == named
    assert refused.status == 422
    assert refused.message.endswith(".")
