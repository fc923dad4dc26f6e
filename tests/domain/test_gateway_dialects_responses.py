"""OpenAI's Responses said of chat completions: what the official client's own types accept."""

import json
import typing
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_gateway.domain.dialects import RESPONSES
from inference_gateway.domain.dialects import chat as chat_module
from inference_gateway.domain.faults import UNREADABLE
from inference_gateway.domain.sse import EventTooLong
from openai.types import responses as theirs

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
    usage,
    usage_chunk,
    whole,
)

ASKED = json.dumps({"model": "chat", "input": "hello"}).encode()
CLASSES: dict[str, Any] = {
    typing.get_args(one.model_fields["type"].annotation)[0]: one
    for one in typing.get_args(typing.get_args(theirs.ResponseStreamEvent)[0])
}


def speaker(asked: bytes = ASKED) -> Any:
    return RESPONSES.speaker(asked, "chat", REQUEST_ID, NOW_S)


def said_whole(answer: bytes, asked: bytes = ASKED) -> dict[str, Any]:
    raw = RESPONSES.whole(asked, answer, "chat", REQUEST_ID, NOW_S)
    theirs.Response.model_validate_json(raw, strict=True)
    said: dict[str, Any] = json.loads(raw)
    return said


def stream(chunks: list[bytes], asked: bytes = ASKED) -> list[dict[str, Any]]:
    """Return the events of a stream, each held against the official client's type of it."""
    found = events(spoken(speaker(asked), [chunks]))
    for one in found:
        CLASSES[one["type"]].model_validate_json(json.dumps(one), strict=True)
    assert [one["sequence_number"] for one in found] == list(range(len(found)))
    return found


def kinds(found: list[dict[str, Any]]) -> list[str]:
    return [one["type"].removeprefix("response.") for one in found]


@FEW
@given(answers(), st.data())
def test_how_chunks_are_grouped_makes_no_difference(
    answer: tuple[bytes, list[bytes]], data: st.DataObject
) -> None:
    _, chunks = answer
    one_by_one = spoken(speaker(), [[one] for one in chunks])
    assert spoken(speaker(), data.draw(grouped(chunks))) == one_by_one


@FEW
@given(answers())
def test_a_stream_ends_with_the_response_that_a_plain_call_gets(
    answer: tuple[bytes, list[bytes]],
) -> None:
    plain, chunks = answer
    assert stream(chunks)[-1]["response"] == said_whole(plain)


@FEW
@given(answers())
def test_the_deltas_of_an_item_add_up_to_it(answer: tuple[bytes, list[bytes]]) -> None:
    found = stream(answer[1])
    heard: dict[str, str] = {}
    opened: list[str] = []
    for one in found:
        if one["type"].endswith(".delta"):
            heard[one["item_id"]] = heard.get(one["item_id"], "") + one["delta"]
        if one["type"] == "response.output_item.added":
            assert one["output_index"] == len(opened)
            opened.append(one["item"]["id"])
    output = found[-1]["response"]["output"]
    assert [item["id"] for item in output] == opened
    for item in output:
        text = item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"]
        assert heard[item["id"]] == text
    done = [one["item"] for one in found if one["type"] == "response.output_item.done"]
    assert sorted(done, key=lambda item: opened.index(item["id"])) == output


def test_words_come_in_the_order_that_clients_expect() -> None:
    found = stream([chunk(role="assistant"), chunk(content="hi"), chunk("stop"), usage_chunk()])
    assert kinds(found) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert found[0]["response"]["usage"] is None
    assert found[-1]["response"]["model"] == "chat"


def test_thoughts_are_an_item_before_the_words() -> None:
    found = stream([chunk(reasoning_content="hm"), chunk(content="hi"), chunk("stop"), usage_chunk()])
    thoughts, words = found[-1]["response"]["output"]
    assert thoughts["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert thoughts["summary"] == []
    assert words["content"][0]["text"] == "hi"
    assert "reasoning_text.delta" in kinds(found)


def test_tool_calls_keep_the_engine_s_ids_and_each_has_its_own_index() -> None:
    chunks = [
        chunk(
            tool_calls=[call_piece(0, "{", call="a", name="f"), call_piece(1, "[", call="b", name="g")]
        ),
        chunk(tool_calls=[call_piece(1, "]")]),
        chunk(tool_calls=[call_piece(0, "}")]),
        chunk("tool_calls"),
        usage_chunk(),
    ]
    found = stream(chunks)
    first, second = found[-1]["response"]["output"]
    assert (first["call_id"], first["name"], first["arguments"]) == ("a", "f", "{}")
    assert (second["call_id"], second["name"], second["arguments"]) == ("b", "g", "[]")
    deltas = [one["output_index"] for one in found if one["type"].endswith("arguments.delta")]
    assert deltas == [0, 1, 1, 0]


def test_a_tool_call_that_the_engine_did_not_name_gets_an_id_from_the_request() -> None:
    chunks = [chunk(tool_calls=[call_piece(0, "{}", name="f")]), chunk("tool_calls")]
    streamed = stream(chunks)[-1]["response"]["output"][0]["call_id"]
    calls = [{"function": {"name": "f", "arguments": "{}"}}]
    assert said_whole(whole(tool_calls=calls))["output"][0]["call_id"] == streamed
    assert REQUEST_ID.removeprefix("request_") in streamed


def test_a_refusal_is_a_part_of_its_own() -> None:
    found = stream([chunk(refusal="no"), chunk("stop"), usage_chunk()])
    assert found[-1]["response"] == said_whole(whole(refusal="no"))
    assert {"refusal.delta", "refusal.done"} <= set(kinds(found))


@pytest.mark.parametrize(
    ("reason", "why"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_that_was_cut_is_incomplete_and_says_why(reason: str, why: str) -> None:
    found = stream([chunk(content="h"), chunk(reason), usage_chunk()])
    assert kinds(found)[-1] == "incomplete"
    assert found[-1]["response"]["incomplete_details"] == {"reason": why}
    assert found[-1]["response"]["output"][0]["status"] == "incomplete"
    assert found[-1]["response"] == said_whole(whole(reason, content="h"))


def test_usage_tells_what_came_from_the_cache_and_what_was_thought() -> None:
    details = {
        "prompt_tokens_details": {"cached_tokens": 7},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    found = stream([chunk(content="h"), chunk("stop"), usage_chunk(9, 4, **details)])
    counted = found[-1]["response"]["usage"]
    assert counted["input_tokens_details"]["cached_tokens"] == 7
    assert counted["output_tokens_details"]["reasoning_tokens"] == 2
    assert (counted["input_tokens"], counted["output_tokens"], counted["total_tokens"]) == (9, 4, 13)


def test_a_stream_without_counts_says_null() -> None:
    assert stream([chunk(content="h"), chunk("stop")])[-1]["response"]["usage"] is None


def likely(text: str, token: str) -> bytes:
    told = {"token": token, "logprob": -0.5, "bytes": list(token.encode()), "top_logprobs": []}
    choice = {"index": 0, "delta": {"content": text}, "logprobs": {"content": [told]}}
    return json.dumps({"choices": [choice]}).encode()


def test_log_probabilities_come_with_the_deltas_and_with_the_whole() -> None:
    found = stream([likely("", "a"), likely("h", "b"), likely("", "c"), chunk("stop")])
    delta = next(one for one in found if one["type"] == "response.output_text.delta")
    assert [token["token"] for token in delta["logprobs"]] == ["a", "b"]
    told = found[-1]["response"]["output"][0]["content"][0]["logprobs"]
    assert [token["token"] for token in told] == ["a", "b", "c"]
    assert told[0] == {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}


def test_a_response_repeats_what_was_asked() -> None:
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}]
    asked = {
        "model": "chat",
        "input": "hello",
        "instructions": "be brief",
        "temperature": 0.5,
        "tools": tools,
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "metadata": {"a": "b"},
        "text": {"format": {"type": "json_object"}},
    }
    said = said_whole(whole(content="{}"), json.dumps(asked).encode())
    repeated = {name: said[name] for name in asked if name not in {"model", "input"}}
    assert repeated == {name: asked[name] for name in repeated}
    assert said["store"] is False
    assert said["previous_response_id"] is None


def test_a_stream_that_cannot_go_on_ends_with_an_error_and_a_failed_response() -> None:
    broken = speaker()
    raw = (
        broken.begin() + broken.part([chunk(content="h")]) + broken.broken("engine_lost", "It is gone.")
    )
    found = events(raw)
    for one in found:
        CLASSES[one["type"]].model_validate_json(json.dumps(one), strict=True)
    assert kinds(found)[-2:] == ["error", "failed"]
    assert (found[-2]["code"], found[-2]["message"]) == ("engine_lost", "It is gone.")
    failed = found[-1]["response"]
    assert failed["status"] == "failed"
    assert failed["error"] == {"code": "server_error", "message": "It is gone."}
    assert failed["output"][0]["status"] == "incomplete"
    assert failed["output"][0]["content"][0]["text"] == "h"


def test_a_stream_that_breaks_before_it_began_still_begins() -> None:
    assert kinds(events(speaker().broken("engine_lost", "It is gone.")))[0] == "created"


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"choices":[{"message":{"content":1}}]}', b"[]"])
def test_an_answer_of_another_shape_is_no_answer(answer: bytes) -> None:
    with pytest.raises(UNREADABLE):
        RESPONSES.whole(ASKED, answer, "chat", REQUEST_ID, NOW_S)


def test_a_chunk_of_another_shape_is_refused_before_anything_of_its_group_is_said() -> None:
    talking = speaker()
    talking.begin()
    with pytest.raises(UNREADABLE):
        talking.part([chunk(content="a"), b'{"choices":[{"delta":{"tool_calls":[1]}}]}'])
    assert kinds(events(talking.broken("engine_malformed", "x")))[0] == "error"


def test_an_answer_too_long_to_be_kept_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_module, "HELD_BYTES_MAX", 200)
    talking = speaker()
    talking.part([chunk(content="x" * 100)])
    with pytest.raises(EventTooLong):
        talking.part([chunk(content="x" * 100)])


def test_what_a_plain_answer_counts_is_what_the_engine_counted() -> None:
    counted = said_whole(whole(content="h"))["usage"]
    assert counted["total_tokens"] == usage()["total_tokens"]


def test_the_official_client_s_own_helper_follows_a_stream_to_its_end() -> None:
    chunks = [
        chunk(reasoning_content="hm"),
        chunk(content="hi"),
        chunk(tool_calls=[call_piece(0, "{}", call="a", name="f")]),
        chunk("tool_calls"),
        usage_chunk(),
    ]
    raw = spoken(speaker(), [chunks])

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=raw)

    web = httpx2.Client(transport=httpx2.MockTransport(answer))
    with (
        openai.OpenAI(base_url="http://door/v1", api_key="k", http_client=web) as caller,
        caller.responses.stream(model="chat", input="hello") as stream_,
    ):
        seen = [one.type for one in stream_]
        final = stream_.get_final_response()
    assert seen[-1] == "response.completed"
    assert final.output_text == "hi"
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]
