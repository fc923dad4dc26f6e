"""The official client, as a tenant's engineer uses it."""

import math

import openai
import pytest

from tests.mesh.harness import Mesh

pytestmark = pytest.mark.slow

HELLO = [{"role": "user", "content": "hello"}]


def client(mesh: Mesh, key: str | None = None) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{mesh.url}/v1", api_key=key or mesh.ready["project_key"], max_retries=0, timeout=20
    )


def test_a_chat_is_answered_and_stands_in_the_ledger_with_the_usage_the_client_saw(mesh: Mesh) -> None:
    with client(mesh) as caller:
        answer = caller.chat.completions.create(model="tiny", messages=HELLO, max_tokens=8)
    assert answer.model == "tiny"
    assert answer.usage is not None
    assert answer._request_id is not None
    usage = mesh.record(answer._request_id)["usage"]
    assert usage["prompt_tokens"] == answer.usage.prompt_tokens
    assert usage["completion_tokens"] == answer.usage.completion_tokens
    assert usage["state"] == "completed"
    assert usage["tokens_from"] == "engine"


def test_a_stream_ends_with_usage_when_asked_for(mesh: Mesh) -> None:
    with client(mesh) as caller:
        stream = caller.chat.completions.create(
            model="tiny",
            messages=HELLO,
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_stream_carries_no_usage_when_not_asked_for(mesh: Mesh) -> None:
    with client(mesh) as caller:
        chunks = list(
            caller.chat.completions.create(model="tiny", messages=HELLO, max_tokens=8, stream=True)
        )
    assert all(chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)
    assert "timings" not in (chunks[0].model_extra or {})


def test_a_completion_is_answered_plain_and_streamed(mesh: Mesh) -> None:
    with client(mesh) as caller:
        plain = caller.completions.create(model="tiny", prompt="once", max_tokens=4)
        streamed = list(
            caller.completions.create(model="tiny", prompt="once", max_tokens=4, stream=True)
        )
    assert plain.usage is not None
    assert plain.usage.completion_tokens > 0
    assert streamed


def test_related_texts_embed_nearer_than_unrelated_ones(mesh: Mesh) -> None:
    with client(mesh) as caller:
        made = caller.embeddings.create(
            model="all-minilm-l6-v2", input=["a cat sleeps", "a kitten naps", "a balance sheet"]
        )
    cat, kitten, sheet = (item.embedding for item in made.data)
    assert len(cat) == 384
    assert math.isclose(sum(x * x for x in cat), 1.0, rel_tol=1e-2)
    near = sum(a * b for a, b in zip(cat, kitten, strict=True))
    far = sum(a * b for a, b in zip(cat, sheet, strict=True))
    assert near > far + 0.2


def test_the_models_are_the_projects_own(mesh: Mesh) -> None:
    with client(mesh) as caller:
        names = {model.id for model in caller.models.list()}
        one = caller.models.retrieve("tiny")
    assert {"tiny", "all-minilm-l6-v2"} <= names
    assert one.id == "tiny"


def test_a_wrong_key_is_an_authentication_error(mesh: Mesh) -> None:
    with (
        client(mesh, "mesh_project_" + "x" * 36) as caller,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        caller.models.list()
    assert caught.value.code == "invalid_api_key"


def test_an_unknown_model_is_not_found(mesh: Mesh) -> None:
    with client(mesh) as caller, pytest.raises(openai.NotFoundError) as caught:
        caller.chat.completions.create(model="no-such-model", messages=HELLO)
    assert caught.value.code == "model_not_found"
    assert "no-such-model" in caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        {"model": "tiny"},
        {"messages": HELLO},
        {"model": "tiny", "messages": "hello"},
        {"model": "tiny", "messages": HELLO, "max_tokens": "many"},
    ],
)
def test_a_bad_body_is_a_clear_error(mesh: Mesh, body: dict[str, object]) -> None:
    answered = mesh.tenant.call("POST", "/v1/chat/completions", body)
    assert answered.status in {400, 422}
    assert answered.body["error"]["message"]
    assert answered.body["error"]["type"] == "invalid_request_error"
    assert "code" in answered.body["error"]


def test_a_body_that_is_not_json_is_a_clear_error(mesh: Mesh) -> None:
    connection, response = mesh.tenant.open("POST", "/v1/chat/completions", None, {"content-type": "x"})
    try:
        assert response.status in {400, 422}
        assert b"error" in response.read()
    finally:
        connection.close()
