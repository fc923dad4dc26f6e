"""The official client's other features: Responses, structure, tools, likelihoods, images, tokens."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.mesh.harness import Mesh
from tests.mesh.scripted_engine import ScriptedEngine, scripted_engine

pytestmark = pytest.mark.slow

HELLO = [{"role": "user", "content": "hello"}]
FUNCTION = {
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALLS = {"weather": {"city": "Paris"}, "clock": {}}


class Verdict(BaseModel):
    fine: bool


@pytest.fixture
def caller(mesh: Mesh) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{mesh.url}/v1", api_key=mesh.ready["project_key"], max_retries=0, timeout=20
    ) as made:
        yield made


@pytest.fixture(scope="module")
def scripted(mesh: Mesh) -> Iterator[ScriptedEngine]:
    """An engine that calls tools, which the tiny model cannot; served under the name 'scripted'."""
    with scripted_engine() as engine:
        mesh.deploy(
            mesh.tenant,
            "scripted",
            "demo",
            model={"id": "weights", "source": "external"},
            engine={"kind": "external", "url": engine.url},
        )
        yield engine


def test_a_response_is_made_and_stands_in_the_ledger_with_the_usage_the_client_saw(
    mesh: Mesh, caller: openai.OpenAI
) -> None:
    response = caller.responses.create(model="tiny", input="hello", max_output_tokens=8)
    assert response.output_text
    assert response.model == "tiny"
    assert response.status in {"completed", "incomplete"}
    assert response.usage is not None
    assert response._request_id is not None
    usage = mesh.record(response._request_id)["usage"]
    assert usage["route"] == "/v1/responses"
    assert usage["prompt_tokens"] == response.usage.input_tokens
    assert usage["completion_tokens"] == response.usage.output_tokens
    assert usage["tokens_from"] == "engine"


def test_a_streamed_response_is_a_row_of_numbered_events(caller: openai.OpenAI) -> None:
    events = list(
        caller.responses.create(
            model="tiny", instructions="be brief", input=HELLO, max_output_tokens=8, stream=True
        )
    )
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    last = events[-1]
    assert last.type in {"response.completed", "response.incomplete"}
    assert last.response.usage is not None
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == last.response.output_text


def test_the_client_s_own_helper_follows_a_stream_and_reads_its_structure(
    caller: openai.OpenAI,
) -> None:
    with caller.responses.stream(model="tiny", input="hello", text_format=Verdict) as stream:
        stream.until_done()
        final = stream.get_final_response()
    assert isinstance(final.output_parsed, Verdict)


def test_structure_is_kept_on_every_road(caller: openai.OpenAI) -> None:
    parsed = caller.responses.parse(model="tiny", input="hello", text_format=Verdict)
    assert isinstance(parsed.output_parsed, Verdict)
    chatted = caller.chat.completions.parse(model="tiny", messages=HELLO, response_format=Verdict)
    assert isinstance(chatted.choices[0].message.parsed, Verdict)


def test_the_likelihood_of_each_token_is_told_where_it_is_asked_for(caller: openai.OpenAI) -> None:
    chatted = caller.chat.completions.create(
        model="tiny", messages=HELLO, max_tokens=4, logprobs=True, top_logprobs=2
    )
    assert chatted.choices[0].logprobs is not None
    told = chatted.choices[0].logprobs.content
    assert told is not None
    assert [len(token.top_logprobs) for token in told] == [2] * 4
    response = caller.responses.create(
        model="tiny",
        input="hello",
        max_output_tokens=4,
        top_logprobs=2,
        include=["message.output_text.logprobs"],
    )
    (message,) = response.output
    assert len(message.content[0].logprobs) == 4
    assert "".join(token.token for token in message.content[0].logprobs) == response.output_text


PIXEL = "data:image/png;base64,iVBORw0KGgo="
SOUND = {"data": "UklGRg==", "format": "wav"}


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "image_url", "image_url": {"url": PIXEL}}, "image"),
        ({"type": "input_audio", "input_audio": SOUND}, "audio"),
    ],
)
def test_a_model_without_eyes_or_ears_says_so(caller: openai.OpenAI, part: Any, kind: str) -> None:
    with pytest.raises(openai.BadRequestError, match=f"{kind} input is not supported"):
        caller.chat.completions.create(model="tiny", messages=[{"role": "user", "content": [part]}])


def test_a_model_without_eyes_says_so_to_a_response_too(caller: openai.OpenAI) -> None:
    parts = [{"type": "input_image", "image_url": PIXEL, "detail": "auto"}]
    with pytest.raises(openai.BadRequestError, match="image input is not supported"):
        caller.responses.create(model="tiny", input=[{"role": "user", "content": parts}])


def test_parts_and_unknown_fields_reach_the_engine_as_they_were_sent(
    caller: openai.OpenAI, scripted: ScriptedEngine
) -> None:
    more = {"chat_template_kwargs": {"enable_thinking": False}, "guided_regex": "a+"}
    parts = [
        {"type": "input_text", "text": "see"},
        {"type": "input_image", "image_url": PIXEL, "detail": "low"},
        {"type": "input_audio", "input_audio": SOUND},
    ]
    caller.responses.create(
        model="scripted", input=[{"role": "user", "content": parts}], extra_body=more
    )
    asked = scripted.asked[-1]
    assert asked["model"] == "weights"
    assert {name: asked[name] for name in more} == more
    assert asked["messages"][0]["content"] == [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
        {"type": "input_audio", "input_audio": SOUND},
    ]


def test_tool_calls_come_whole_and_in_pieces_over_a_chat(
    caller: openai.OpenAI, scripted: ScriptedEngine
) -> None:
    asked: Any = {
        "model": "scripted",
        "messages": HELLO,
        "tools": [{"type": "function", "function": FUNCTION}],
    }
    plain = caller.chat.completions.create(**asked).choices[0].message.tool_calls
    with caller.chat.completions.stream(**asked) as stream:
        stream.until_done()
        streamed = stream.get_final_completion().choices[0].message.tool_calls
    for calls in (plain, streamed):
        assert calls is not None
        told = {call.function.name: json.loads(call.function.arguments) for call in calls}
        assert told == CALLS
    assert scripted.asked[-1]["tools"] == asked["tools"]


def test_tool_calls_come_whole_and_in_pieces_over_a_response(
    caller: openai.OpenAI, scripted: ScriptedEngine
) -> None:
    asked: Any = {
        "model": "scripted",
        "input": "hello",
        "tools": [{"type": "function", "strict": False, **FUNCTION}],
    }
    plain = caller.responses.create(**asked)
    with caller.responses.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_response()
    assert "response.function_call_arguments.delta" in kinds
    assert "response.reasoning_text.delta" in kinds
    for response in (plain, streamed):
        calls = [item for item in response.output if item.type == "function_call"]
        assert {call.name: json.loads(call.arguments) for call in calls} == CALLS
        assert [call.call_id for call in calls] == ["call_a", "call_b"]
    assert scripted.asked[-1]["tools"][0]["function"]["name"] == "weather"


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ],
)
def test_what_leans_on_something_stored_or_run_here_is_refused_by_name(
    caller: openai.OpenAI, more: Any, named: str
) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        caller.responses.create(model="tiny", input="hello", **more)
    assert caught.value.param == named


def test_tokens_are_counted_as_the_engine_counts_them_and_cost_none(
    mesh: Mesh, caller: openai.OpenAI
) -> None:
    chatted = caller.chat.completions.create(model="tiny", messages=HELLO, max_tokens=1)
    assert chatted.usage is not None
    counted = mesh.tenant.call("POST", "/v1/tokenize", {"model": "tiny", "messages": HELLO})
    assert counted.status == 200
    assert counted.body["count"] == len(counted.body["tokens"]) == chatted.usage.prompt_tokens
    usage = mesh.record(counted.headers["x-request-id"])["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (0, 0)
