"""Tokens are counted by the engine itself, by the road that its kind has."""

import json
from typing import Any

import pytest
from inference_gateway.domain.dialects import tokenize
from inference_gateway.domain.dialects.tokenize import Counted, Question, Text
from inference_gateway.domain.faults import UNREADABLE, Fault

USER = {"role": "user", "content": "hello"}


def wanted(**body: Any) -> Text:
    read = tokenize.read(json.dumps({"model": "chat", **body}).encode())
    assert isinstance(read, Text), read
    return read


def test_a_prompt_is_one_question_to_the_built_in_engine() -> None:
    question = tokenize.ask(wanted(prompt="hello"), "llama", "weights")
    assert question.path == "/tokenize"
    assert json.loads(question.body)["content"] == "hello"
    counted = tokenize.hear(question, b'{"tokens":[1,2,3]}')
    assert counted == Counted(3, [1, 2, 3])


def test_a_chat_is_made_a_prompt_by_its_template_first() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    first = tokenize.ask(wanted(messages=[USER], tools=tools, temperature=1), "llama", "weights")
    assert first.path == "/apply-template"
    assert json.loads(first.body) == {"messages": [USER], "tools": tools}
    second = tokenize.hear(first, b'{"prompt":"<|user|>hello"}')
    assert isinstance(second, Question)
    assert json.loads(second.body)["content"] == "<|user|>hello"


@pytest.mark.parametrize("engine", ["vllm", "external"])
def test_other_engines_are_asked_in_the_words_of_vllm(engine: Any) -> None:
    question = tokenize.ask(wanted(messages=[USER]), engine, "weights")
    assert question.path == "/tokenize"
    assert json.loads(question.body) == {"model": "weights", "messages": [USER]}
    answer = b'{"count":2,"max_model_len":4096,"tokens":[5,6],"token_strs":null}'
    assert tokenize.hear(question, answer) == Counted(2, [5, 6], 4096)


def test_tokens_are_said_with_their_count_and_null_where_the_length_is_unknown() -> None:
    said = json.loads(tokenize.answer(Counted(2, [5, 6])))
    assert said == {"count": 2, "tokens": [5, 6], "max_model_len": None}


def test_a_body_in_anthropic_s_shape_is_counted_as_the_chat_that_it_is() -> None:
    body = {"model": "chat", "system": "be brief", "messages": [USER]}
    read = tokenize.read_count(json.dumps(body).encode())
    assert isinstance(read, Text)
    question = tokenize.ask(read, "llama", "weights")
    assert json.loads(question.body)["messages"] == [{"role": "system", "content": "be brief"}, USER]
    assert json.loads(tokenize.answer_count(Counted(2, [5, 6]))) == {"input_tokens": 2}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "prompt"),
        ({"messages": []}, "prompt"),
        ({"prompt": "a", "messages": [USER]}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
    ],
)
def test_what_cannot_be_counted_is_refused_by_name(body: dict[str, Any], named: str) -> None:
    refused = tokenize.read(json.dumps({"model": "chat", **body}).encode())
    assert isinstance(refused, Fault)
    assert refused.param == named


@pytest.mark.parametrize("path", ["/tokenize", "/apply-template"])
def test_an_engine_that_answers_something_else_has_not_counted(path: str) -> None:
    with pytest.raises(UNREADABLE):
        tokenize.hear(Question(path, b""), b'{"error":"no"}')
