"""What a request may take at most, from its bytes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_gateway.domain.admission.estimate import UNMEASURED_TOKENS, Estimate, upper_bound
from inference_gateway.domain.body import CHAT, COMPLETE, EMBED, Operation, read
from inference_gateway.domain.faults import Fault
from mesh_contracts.placement import Routing


def bound(body: Any, operation: Operation = CHAT, **routing: Any) -> Estimate:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    wanted = read(raw, operation)
    assert not isinstance(wanted, Fault), wanted
    return upper_bound(raw, wanted.fields, Routing(**routing), operation, wanted.prompts)


def chat(content: Any = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": content}], **fields}


@given(st.text(), st.booleans())
def test_a_prompt_has_no_more_tokens_than_its_body_has_bytes(text: str, ascii_only: bool) -> None:
    raw = json.dumps(chat(text), ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    if isinstance(read(raw, CHAT), Fault):
        return
    own = len(text.encode("utf-8", "surrogatepass"))
    assert bound(raw, overhead_tokens=0).prompt_tokens >= own


def test_the_template_adds_its_overhead_and_the_context_bounds_the_whole() -> None:
    assert bound(chat(), overhead_tokens=7).prompt_tokens == len(json.dumps(chat())) + 7
    assert bound(chat("x" * 5_000), context_tokens=512).prompt_tokens == 512


@pytest.mark.parametrize(
    ("fields", "answer", "cap"),
    [
        ({}, 100, 100),
        ({"max_tokens": 5}, 5, None),
        ({"max_completion_tokens": 5}, 5, None),
        ({"max_completion_tokens": 5, "max_tokens": 50}, 5, 5),
        ({"max_tokens": None}, 100, 100),
        ({"max_tokens": -1}, 100, 100),
        ({"max_tokens": 0}, 0, 0),
        ({"max_tokens": 5, "n_predict": 9_999}, 5, 5),
        ({"n_predict": -1}, 100, 100),
        ({"n_predict": "many"}, 100, 100),
        ({"max_tokens": 5, "n": 3}, 15, None),
        ({"max_tokens": 5, "n": 2, "best_of": 4}, 20, None),
        ({"max_tokens": 5, "n_cmpl": 6}, 30, None),
        ({"max_tokens": 5, "best_of": "4"}, 5 * 128, None),
        ({"max_tokens": 5, "best_of": None}, 5, None),
        ({"max_tokens": 10**30}, 2**53, None),
    ],
)
def test_the_answer_is_bounded_by_its_cap_and_the_engine_is_told_where_the_body_is_not_clear(
    fields: dict[str, Any], answer: int, cap: int | None
) -> None:
    got = bound(chat(**fields), answer_tokens=100)
    assert (got.answer_tokens, got.cap) == (answer, cap)


def test_several_prompts_have_as_many_answers_contexts_and_overheads() -> None:
    body = {"model": "chat", "prompt": ["one", "two"], "max_tokens": 5}
    assert bound(body, COMPLETE).answer_tokens == 10
    assert bound(body, COMPLETE, overhead_tokens=9).prompt_tokens == len(json.dumps(body)) + 18
    long = {"model": "chat", "prompt": ["x" * 99, "y" * 99], "max_tokens": 5}
    assert bound(long, COMPLETE, context_tokens=50).prompt_tokens == 100


def test_an_answer_is_no_longer_than_the_context() -> None:
    assert bound(chat(max_tokens=9_999, n=2), context_tokens=50).answer_tokens == 100


def test_an_embedding_has_no_answer_and_any_number_of_texts() -> None:
    body = {"model": "chat", "input": ["x" * 500, "y" * 500]}
    got = bound(body, EMBED, context_tokens=100)
    assert got.answer_tokens == 0
    assert got.prompt_tokens >= 1_000
    assert got.cap is None


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "image", "source": {"type": "url", "url": "https://x/y"}},
    ],
)
def test_what_no_length_bounds_takes_the_whole_context_however_its_name_is_written(
    part: dict[str, Any],
) -> None:
    raw = json.dumps(chat([{"type": "text", "text": "what is it?"}, part]))
    escaped = raw.replace("image", r"im\u0061ge").replace("input", r"\u0069nput")
    escaped = escaped.replace("file", r"fil\u0065")
    for written in (raw.encode(), escaped.encode()):
        assert bound(written, context_tokens=777).prompt_tokens == 777
        assert bound(written).prompt_tokens > UNMEASURED_TOKENS


def test_a_text_that_speaks_of_images_is_a_text() -> None:
    text = chat([{"type": "text", "text": 'put "image_url" and \\u0041 into it [1]'}], stop=["x"])
    assert bound(text, context_tokens=10_000).prompt_tokens < 1_000


def test_tools_may_name_anything_and_are_written_anew_by_the_template() -> None:
    properties = {
        "file": {"type": "string"},
        "image": {"type": "string"},
        "file_url": {"type": "array"},
    }
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": properties}}}
    body = chat([{"type": "text", "text": "hello"}], tools=[tool])
    got = bound(json.dumps(body, separators=(",", ":")).encode(), context_tokens=10_000)
    assert len(json.dumps(body)) < got.prompt_tokens < 1_500
