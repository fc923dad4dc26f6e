"""Anthropic's messages said of chat completions: blocks one after the other, and its own words for the end."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_gateway.domain.dialects import MESSAGES
from inference_gateway.domain.faults import UNREADABLE, Fault, invalid_key, unavailable

from tests.domain.dialect_chunks import (
    FEW,
    NOW_S,
    REQUEST_ID,
    answers,
    call_piece,
    chunk,
    events,
    grouped,
    spoken,
    usage_chunk,
    whole,
)

ASKED = json.dumps(
    {
        "model": "chat",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "hello"}],
    }
).encode()


def speaker() -> Any:
    return MESSAGES.speaker(ASKED, "chat", REQUEST_ID, NOW_S)


def said_whole(answer: bytes) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(MESSAGES.whole(ASKED, answer, "chat", REQUEST_ID, NOW_S))
    return said


def put_together(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the message that a stream is, read as strictly as its grammar is: one block at a time."""
    assert found[0]["type"] == "message_start"
    assert found[-1]["type"] == "message_stop"
    message: dict[str, Any] = found[0]["message"]
    blocks: list[dict[str, Any]] = message["content"]
    open_ = False
    typed = ""
    for one in found[1:-1]:
        match one["type"]:
            case "content_block_start":
                assert not open_
                assert one["index"] == len(blocks)
                blocks.append(one["content_block"])
                open_, typed = True, ""
            case "content_block_delta":
                assert open_
                assert one["index"] == len(blocks) - 1
                delta = one["delta"]
                if delta["type"] == "input_json_delta":
                    assert blocks[-1]["type"] == "tool_use"
                    typed += delta["partial_json"]
                else:
                    field = blocks[-1]["type"]
                    assert delta["type"] == f"{field}_delta"
                    blocks[-1][field] += delta[field]
            case "content_block_stop":
                assert open_
                assert one["index"] == len(blocks) - 1
                open_ = False
                if typed:
                    blocks[-1]["input"] = json.loads(typed)
            case "message_delta":
                assert not open_
                message |= one["delta"]
                message["usage"] = one["usage"]
            case other:
                raise AssertionError(other)
    return message


@FEW
@given(answers(), st.data())
def test_how_chunks_are_grouped_makes_no_difference_to_a_message(
    answer: tuple[bytes, list[bytes]], data: st.DataObject
) -> None:
    _, chunks = answer
    one_by_one = spoken(speaker(), [[one] for one in chunks])
    assert spoken(speaker(), data.draw(grouped(chunks))) == one_by_one


@FEW
@given(answers())
def test_a_stream_adds_up_to_the_message_that_a_plain_call_gets(
    answer: tuple[bytes, list[bytes]],
) -> None:
    plain, chunks = answer
    assert put_together(events(spoken(speaker(), [chunks]))) == said_whole(plain)


def test_the_events_of_a_message_come_in_anthropic_s_order() -> None:
    found = events(spoken(speaker(), [[chunk(content="hi"), chunk("stop"), usage_chunk()]]))
    assert [one["type"] for one in found] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert found[0]["message"]["stop_reason"] is None


def test_the_pieces_of_a_second_tool_call_wait_for_the_end_of_the_first() -> None:
    chunks = [
        chunk(tool_calls=[call_piece(0, "{", call="a", name="f")]),
        chunk(tool_calls=[call_piece(1, '{"x"', call="b", name="g")]),
        chunk(tool_calls=[call_piece(0, "}")]),
        chunk(tool_calls=[call_piece(1, ":1}")]),
        chunk("tool_calls"),
    ]
    message = put_together(events(spoken(speaker(), [chunks])))
    assert message["content"] == [
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {"x": 1}},
    ]
    assert message["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("content_filter", "refusal"),
    ],
)
def test_the_reason_of_an_end_is_said_in_anthropic_s_words(reason: str, word: str) -> None:
    found = events(spoken(speaker(), [[chunk(content="h"), chunk(reason), usage_chunk()]]))
    assert put_together(found)["stop_reason"] == word
    assert said_whole(whole(reason, content="h"))["stop_reason"] == word


def test_a_stop_sequence_is_named_where_the_engine_names_it() -> None:
    choice = {"index": 0, "finish_reason": "stop", "stop_reason": "END"}
    plain = said_whole(json.dumps({"choices": [{**choice, "message": {"content": "h"}}]}).encode())
    ended = json.dumps({"choices": [{**choice, "delta": {}}]}).encode()
    streamed = put_together(events(spoken(speaker(), [[chunk(content="h"), ended]])))
    for message in (plain, streamed):
        assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")


def test_a_token_that_stopped_the_engine_is_not_the_client_s_stop_sequence() -> None:
    choice = {"index": 0, "finish_reason": "stop", "stop_reason": 2, "message": {"content": "h"}}
    assert said_whole(json.dumps({"choices": [choice]}).encode())["stop_reason"] == "end_turn"


def test_tokens_from_the_cache_are_counted_beside_the_input() -> None:
    counted = usage_chunk(9, 4, prompt_tokens_details={"cached_tokens": 7})
    message = put_together(events(spoken(speaker(), [[chunk(content="h"), chunk("stop"), counted]])))
    assert message["usage"] == {
        "input_tokens": 2,
        "cache_creation_input_tokens": None,
        "cache_read_input_tokens": 7,
        "output_tokens": 4,
    }


def test_nobody_is_given_half_a_tool_call() -> None:
    calls = [{"id": "a", "function": {"name": "f", "arguments": '{"x":'}}]
    cut = said_whole(whole("length", tool_calls=calls))
    assert (cut["content"], cut["stop_reason"]) == ([], "max_tokens")
    with pytest.raises(UNREADABLE):
        said_whole(whole("tool_calls", tool_calls=calls))


def test_a_message_that_cannot_go_on_ends_with_an_error_event() -> None:
    talking = speaker()
    raw = talking.begin() + talking.part([chunk(content="h")]) + talking.broken("engine_lost", "Gone.")
    last = events(raw)[-1]
    assert last["type"] == "error"
    assert last["error"] == {"type": "api_error", "message": "Gone.", "code": "engine_lost"}
    assert last["request_id"] == REQUEST_ID


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (invalid_key("No."), "authentication_error"),
        (Fault(status=422, code="invalid_field", message="No."), "invalid_request_error"),
        (Fault(status=404, code="model_not_found", message="No."), "not_found_error"),
        (Fault(status=413, code="body_too_large", message="No."), "request_too_large"),
        (Fault(status=429, code="rate_limit_exceeded", message="No."), "rate_limit_error"),
        (unavailable("overloaded", "No."), "overloaded_error"),
        (unavailable("engine_failed", "No."), "api_error"),
    ],
)
def test_a_refusal_is_told_in_anthropic_s_envelope(fault: Fault, kind: str) -> None:
    said = json.loads(MESSAGES.refusal(fault, REQUEST_ID))
    assert (said["type"], said["request_id"]) == ("error", REQUEST_ID)
    assert said["error"]["type"] == kind
    assert said["error"]["message"] == fault.message
    assert said["error"]["code"] == fault.code


def test_an_answer_without_a_choice_is_no_answer() -> None:
    with pytest.raises(UNREADABLE):
        said_whole(b'{"choices":[]}')
