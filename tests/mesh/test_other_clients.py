"""Other people's clients call the models of a mesh, each as its own documentation says."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from inference_gateway.domain.dialects import MESSAGES
from mesh_tools.bench import environment

from tests.domain.dialect_chunks import NOW_S, REQUEST_ID, answers, events, spoken
from tests.mesh.harness import Mesh

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(400)]

SCRIPT = Path(__file__).with_name("other_clients.py")
CLIENT_WITHIN_S = 200
"""The first time, a client of 10,000 lines is compiled before it says a word."""
PROMPT_TOKENS = 5
"""What 'hello' is to the tiny model, with its template."""


@pytest.fixture(scope="session")
def clients() -> Path:
    """An interpreter that has the clients."""
    return environment.python("clients")


def seen_by(clients: Path, client: str, mesh: Mesh | None, said: str = "") -> dict[str, Any]:
    """Return what a client saw of the mesh."""
    at = {"MESH_URL": "", "MESH_API_KEY": ""}
    if mesh is not None:
        at = {"MESH_URL": mesh.url, "MESH_API_KEY": mesh.ready["project_key"]}
    # Neither may ask its maker for anything.
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false"}
    done = subprocess.run(
        [str(clients), str(SCRIPT), client],
        input=said,
        env={"PATH": os.environ["PATH"], **quiet, **at},
        capture_output=True,
        text=True,
        check=False,
        timeout=CLIENT_WITHIN_S,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


def test_anthropic_s_client_is_answered_plain_and_streamed_and_told_what_is_wrong(
    clients: Path, mesh: Mesh
) -> None:
    seen = seen_by(clients, "anthropic", mesh)
    for message in (seen["plain"], seen["streamed"]):
        assert message["text"]
        assert message["stop_reason"] in {"end_turn", "max_tokens"}
        assert message["output"] > 0
    assert seen["deltas"] > 1
    assert seen["delta_text"] == seen["streamed"]["text"]
    assert seen["streamed"]["input"] == seen["counted"] == PROMPT_TOKENS
    assert seen["refused"]["status"] == 422
    assert "container" in seen["refused"]["body"]["error"]["message"]
    assert seen["refused"]["request_id"] == seen["refused"]["body"]["request_id"]
    assert seen["stranger_told"]["error"]["type"] == "authentication_error"
    usage = mesh.record(seen["request_id"])["usage"]
    assert usage["route"] == "/v1/messages"
    assert usage["prompt_tokens"] == seen["plain"]["input"]
    assert usage["completion_tokens"] == seen["plain"]["output"]


def test_langchain_is_answered_over_chat_and_over_responses(clients: Path, mesh: Mesh) -> None:
    seen = seen_by(clients, "langchain", mesh)
    for way in ("chat", "responses"):
        told = seen[way]
        assert told["text"]
        assert told["streamed"]
        assert told["parts"] > 1
        for usage in (told["usage"], told["streamed_usage"]):
            assert usage["input_tokens"] == PROMPT_TOKENS
            assert usage["output_tokens"] > 0


def test_litellm_is_answered_over_chat_and_over_responses(clients: Path, mesh: Mesh) -> None:
    seen = seen_by(clients, "litellm", mesh)
    assert seen["text"]
    assert seen["streamed"]
    assert seen["output"] > 0
    assert seen["streamed_output"] > 0
    assert seen["response"]
    assert seen["last_event"] in {"response.completed", "response.incomplete"}


@pytest.mark.long
def test_what_is_said_in_anthropic_s_shape_fits_anthropic_s_own_types(clients: Path) -> None:
    lines: list[str] = []

    @settings(max_examples=25, database=None)
    @given(answers())
    def say(answer: tuple[bytes, list[bytes]]) -> None:
        plain, chunks = answer
        speaker = MESSAGES.speaker(b"{}", "chat", REQUEST_ID, NOW_S)
        lines.extend(json.dumps(one) for one in events(spoken(speaker, [chunks])))
        lines.append(MESSAGES.whole(b"{}", plain, "chat", REQUEST_ID, NOW_S).decode())

    say()
    checked = seen_by(clients, "anthropic-types", None, "\n".join(lines))
    assert sum(checked.values()) == len(lines)
    assert all(checked.values()), checked
