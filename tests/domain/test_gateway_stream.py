"""What a client sees of an engine's stream, and how many tokens are counted while it goes by."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_gateway.domain.faults import UNREADABLE
from inference_gateway.domain.refusals import refusal_of
from inference_gateway.domain.sse import BYTE_ORDER_MARK, EVENT_BYTES_MAX, EventTooLong, Splitter
from inference_gateway.domain.stream import Reading, whole_answer
from mesh_contracts.placement import EngineKind


def chunk(text: str | None = "a", *, made: int | None = None, index: int = 0, **more: Any) -> bytes:
    choice = {
        "index": index,
        "delta": {} if text is None else {"content": text},
        "finish_reason": more.pop("finish_reason", None),
    }
    said = {"id": "c", "model": "weights", "choices": [choice], **more}
    if made is not None:
        said["timings"] = {"cache_n": 1, "prompt_n": 4, "predicted_n": made}
    return b"data: " + json.dumps(said).encode()


def usage(tokens: int, **more: Any) -> bytes:
    counted = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
    said = {"id": "c", "model": "weights", "choices": [], "usage": counted, **more}
    return b"data: " + json.dumps(said).encode()


def shown(raw: bytes) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(raw.removeprefix(b"data: "))
    return said


LINE = st.binary(min_size=1, max_size=20).filter(lambda b: b"\n" not in b and b"\r" not in b)


@given(st.lists(st.lists(LINE, min_size=1, max_size=3), max_size=6), st.data())
def test_events_come_out_whole_and_as_they_were_written_however_the_reads_were_cut(
    events: list[list[bytes]], data: st.DataObject
) -> None:
    end = data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    written = [b"".join(line + end for line in event) + end for event in events]
    whole = b"".join(written)
    splitter, got, at = Splitter(), [], 0
    while at < len(whole):
        step = data.draw(st.integers(1, 7))
        got += splitter.feed(whole[at : at + step])
        at += step
    assert b"".join(got) + splitter.rest == whole
    # A carriage return at the end of a read may be half of a line's end: the other half then follows.
    assert [event.strip(b"\r\n") for event in got] == [event.strip(b"\r\n") for event in written]


@pytest.mark.parametrize("lines", [b"", b": ping\n"])
def test_an_event_behind_a_byte_order_mark_is_counted_and_renamed_like_any_other(lines: bytes) -> None:
    reading = Reading("external", "chat", show_usage=True)
    out = reading.take(BYTE_ORDER_MARK + lines + chunk("a") + b"\n\n")
    assert (reading.fault, reading.tokens) == (None, 1)
    assert out.startswith(lines + b"data: ")
    assert shown(out.removeprefix(lines))["model"] == "chat"


def test_an_event_that_never_ends_is_refused() -> None:
    splitter = Splitter()
    with pytest.raises(EventTooLong):
        splitter.feed(b"x" * (EVENT_BYTES_MAX + 1))


def test_a_large_event_in_many_reads_takes_no_longer_than_its_bytes() -> None:
    def seconds(reads: int) -> float:
        splitter, part = Splitter(), b"x" * 256
        began = time.process_time()
        for _ in range(reads):
            splitter.feed(part)
        assert splitter.feed(b"\n\n") == [part * reads + b"\n\n"]
        return time.process_time() - began

    # Eight times the bytes, looked through anew at each read, took sixty-four times as long.
    assert seconds(EVENT_BYTES_MAX // 256) < 24 * max(seconds(EVENT_BYTES_MAX // 2048), 0.001)


def test_the_client_sees_its_own_model_name_and_none_of_what_we_asked_for() -> None:
    reading = Reading("llama", "chat", show_usage=False)
    said = shown(reading.take(chunk("hello", made=1)))
    assert said["model"] == "chat"
    assert "timings" not in said
    assert reading.take(usage(1)) == b""
    assert reading.final


def test_the_engines_own_counts_are_believed_where_it_gives_them() -> None:
    reading = Reading("llama", "chat", show_usage=False)
    reading.take(chunk("a few words", made=4))
    assert (reading.tokens, reading.prompt_tokens) == (4, 5)


def test_without_counts_a_chunk_with_content_is_one_token() -> None:
    reading = Reading("external", "chat", show_usage=False)
    for event in (chunk(None), chunk("a"), chunk("b"), chunk("")):
        reading.take(event)
    assert reading.tokens == 2


@given(st.lists(st.sampled_from(["none", "timings", "usage", "nought"]), max_size=30))
def test_each_token_is_counted_once_whichever_chunks_bear_the_engines_count(said: list[str]) -> None:
    reading = Reading("external", "chat", show_usage=False)
    for made, how in enumerate(said, 1):
        counted = {"completion_tokens": 0 if how == "nought" else made}
        more: dict[str, Any] = {"usage": counted} if how in {"usage", "nought"} else {}
        reading.take(chunk("a", made=made if how == "timings" else None, **more))
        assert reading.tokens == made
        assert not reading.final


def test_a_token_that_comes_in_two_chunks_is_one_where_the_engine_says_so() -> None:
    reading = Reading("llama", "chat", show_usage=False)
    for made in (1, 1, 2):
        reading.take(chunk("a", made=made))
        assert reading.tokens == made


@pytest.mark.parametrize("engine", ["external", "vllm"])
def test_of_two_answers_with_running_usage_the_first_to_finish_is_not_the_end(
    engine: EngineKind,
) -> None:
    reading = Reading(engine, "chat", show_usage=True, choices=2)
    for index, made, why in [(0, 1, None), (1, 2, None), (0, 2, "stop"), (1, 3, None)]:
        reading.take(chunk("a", index=index, finish_reason=why, usage={"completion_tokens": made}))
        assert not reading.final
    reading.take(chunk("", index=1, finish_reason="stop", usage={"completion_tokens": 3}))
    assert reading.final == (engine == "external")
    reading.take(usage(3))
    assert reading.final
    assert reading.usage is not None
    assert reading.usage.completion_tokens == 3


def test_two_answers_at_once_are_counted_together_and_shown_one_usage() -> None:
    reading = Reading("llama", "chat", show_usage=True, choices=2)
    reading.take(chunk("a", made=1, index=0))
    reading.take(chunk("b", made=2, index=1))
    assert reading.tokens == 3
    assert reading.take(usage(2)) == b""
    assert reading.take(usage(1)) == b""
    assert not reading.final
    said = shown(reading.take(b"data: [DONE]"))
    assert reading.done
    assert reading.final
    assert said["usage"]["completion_tokens"] == 3
    assert said["usage"]["prompt_tokens"] == 5
    assert said["usage"]["total_tokens"] == 8
    assert reading.usage is not None
    assert reading.usage.completion_tokens == 3


def test_usage_that_rides_on_each_of_two_answers_is_summed_too() -> None:
    reading = Reading("llama", "chat", show_usage=True, choices=2)
    counted = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    for index in range(2):
        said = shown(reading.take(chunk("", index=index, finish_reason="length", usage=counted)))
        assert said["usage"] is None
        assert not reading.final
    said = shown(reading.take(b"data: [DONE]"))
    assert said["choices"] == []
    assert (said["usage"]["prompt_tokens"], said["usage"]["completion_tokens"]) == (2, 6)


def test_an_empty_event_of_the_engine_is_nothing() -> None:
    reading = Reading("llama", "chat", show_usage=True)
    assert reading.take(b"data: null") == b""
    assert reading.fault is None


def test_running_usage_is_hidden_from_chunks_and_the_last_one_is_shown() -> None:
    reading = Reading("vllm", "chat", show_usage=True)
    counted = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    said = shown(reading.take(chunk("a", usage=counted)))
    assert said["usage"] is None
    assert (reading.tokens, reading.final) == (1, False)
    assert shown(reading.take(usage(2)))["usage"]["completion_tokens"] == 2
    assert reading.final


def test_a_usage_that_rides_on_the_last_text_is_final() -> None:
    reading = Reading("llama", "chat", show_usage=True)
    counted = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    said = shown(reading.take(chunk("", finish_reason="length", usage=counted)))
    assert reading.final
    assert said["usage"] == counted


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error":{"message":"out of memory"}}',
        b'error: {"message":"out of memory"}',
        b'event: error\ndata: {"message":"out of memory"}',
        b"data: {not json",
        b'data: {"choices":[{"delta":{"content":"\xff"}}]}',
        b'data: {"choices":' + b"[" * 100_000,
    ],
)
def test_an_engine_that_fails_in_the_middle_is_a_fault_and_nothing_of_it_is_shown(event: bytes) -> None:
    reading = Reading("llama", "chat", show_usage=False)
    assert reading.take(event) == b""
    assert reading.fault


def test_nothing_is_read_after_the_end_or_a_fault() -> None:
    reading = Reading("llama", "chat", show_usage=False)
    out = reading.take_all([chunk("a", made=1), b"data: [DONE]", chunk("b", made=2)])
    assert b"".join(out).count(b"data:") == 1
    assert reading.tokens == 1


@given(st.text())
def test_text_passes_through_unchanged_whatever_it_says(text: str) -> None:
    reading = Reading("llama", "chat", show_usage=False)
    said = shown(reading.take(chunk(text, made=1)))
    assert said["choices"][0]["delta"]["content"] == text


@pytest.mark.parametrize("event", [b": still working\n\n", b"id: 7\r\n\r\n", b"retry: 5\r\r"])
def test_what_holds_no_data_passes_as_it_is(event: bytes) -> None:
    assert Reading("external", "chat", show_usage=False).take(event) == event


@pytest.mark.parametrize("name", ["chat", "weights"])
def test_an_event_of_several_lines_is_one_line_for_the_client_only_where_it_is_changed(
    name: str,
) -> None:
    reading = Reading("external", name, show_usage=False)
    lines = [
        b"data: " + line
        for line in json.dumps(json.loads(chunk("a")[6:]), indent=1).encode().split(b"\n")
    ]
    event = b"id: 7\n" + b"\n".join(lines) + b"\n\n"
    out = reading.take(event)
    if name == "weights":
        assert out == event
    else:
        assert out.startswith(b"id: 7\ndata: {")
        assert shown(out.removeprefix(b"id: 7\n"))["choices"][0]["delta"] == {"content": "a"}


@pytest.mark.parametrize("raw", [b"{", b'{"model":"\xff"}', b'{"x":' + b"[" * 100_000])
def test_a_plain_answer_that_is_no_json_is_unreadable(raw: bytes) -> None:
    with pytest.raises(UNREADABLE):
        whole_answer(raw, "chat")
    assert refusal_of(400, raw, "chat").fault.code == "refused_by_engine"


def test_a_plain_answer_is_renamed_and_its_usage_read() -> None:
    counted = {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    raw = json.dumps({"model": "weights", "choices": [], "usage": counted}).encode()
    answer = whole_answer(raw, "chat")
    body, found = answer.body, answer.usage
    assert json.loads(body)["model"] == "chat"
    assert found is not None
    assert (found.completion_tokens, found.cached_tokens) == (2, 4)
    assert whole_answer(raw, "weights").body is raw
