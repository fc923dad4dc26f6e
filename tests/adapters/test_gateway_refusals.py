"""What the door refuses, in the words that clients read, and before anything is asked."""

import asyncio
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from inference_gateway.settings import BODY_BYTES_MAX
from mesh_contracts.placement import Reason

from tests.adapters.gateways import Engine, Town, drawn_key, streaming, town
from tests.adapters.test_gateway_door import refusal
from tests.servers_nats import NatsServer

pytestmark = pytest.mark.slow

WORDS = 4


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    made = Engine(streaming(WORDS))
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def here(tmp_path: Path, nats_server: NatsServer, engine: Engine) -> AsyncIterator[Town]:
    async with town(tmp_path, nats_server.url) as made:
        await made.serve(engine.replica())
        yield made


async def test_keys_that_open_nothing_are_401_and_say_what_to_do(here: Town) -> None:
    revoked, expired = drawn_key(), drawn_key()
    await here.put_key(revoked, revoked=True)
    await here.put_key(expired, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    for key in ("mesh_project_" + "x" * 36, drawn_key(), revoked, expired):
        status, said, headers = await refusal(
            here.post("/v1/chat/completions", {"model": "chat"}, key=key)
        )
        assert (status, said["code"]) == (401, "invalid_api_key")
        assert headers["www-authenticate"] == "Bearer"
    assert await here.told() == []


async def test_a_key_is_revoked_from_one_moment_to_the_next(here: Town) -> None:
    async def status() -> int:
        async with here.get("/v1/models") as answer:
            return int(answer.status)

    # What opened something is remembered by how it was written; what it opens is looked up each time.
    assert await status() == 200
    await here.put_key(here.key, revoked=True)
    async with asyncio.timeout(2):
        while await status() != 401:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_an_operators_key_has_no_models_and_is_told_so(here: Town) -> None:
    admin = drawn_key("admin")
    await here.put_key(admin, role="admin", organization=None, project=None, project_name=None)
    await here.knows(admin)
    status, said, _ = await refusal(here.get("/v1/models", key=admin))
    assert (status, said["code"]) == (403, "no_project")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b'{"model":"chat"}', 422, "missing_field"),
        (b'{"model":"chat","messages":"x"}', 422, "invalid_field"),
        (b'{"model":"gone","messages":[{"role":"user"}]}', 404, "model_not_found"),
        (b'{"model":"' + b"x" * BODY_BYTES_MAX + b'"}', 413, "body_too_large"),
    ],
)
async def test_bad_bodies_are_refused_in_openais_envelope(
    here: Town, body: bytes, status: int, code: str
) -> None:
    headers = {"authorization": f"Bearer {here.key}"}
    asked = here.http.post(f"{here.base}/v1/chat/completions", data=io.BytesIO(body), headers=headers)
    got, said, headers = await refusal(asked)
    assert (got, said["code"]) == (status, code)
    assert headers["x-request-id"]
    assert await here.told() == []


async def test_a_body_that_grows_past_its_bound_is_refused_while_it_comes(here: Town) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * (BODY_BYTES_MAX // 32)

    headers = {"authorization": f"Bearer {here.key}"}
    asked = here.http.post(f"{here.base}/v1/chat/completions", data=parts(), headers=headers)
    status, said, _ = await refusal(asked)
    assert (status, said["code"]) == (413, "body_too_large")


async def test_a_model_of_another_kind_is_refused_with_where_to_go(here: Town, engine: Engine) -> None:
    await here.serve(engine.replica("r2"), name="vectors", embedding=True)
    status, said, _ = await refusal(
        here.post("/v1/chat/completions", {"model": "vectors", "messages": [{"role": "user"}]})
    )
    assert (status, said["code"]) == (422, "wrong_endpoint")
    assert "/v1/embeddings" in said["message"]


async def test_an_endpoint_without_replicas_says_why(here: Town) -> None:
    reasons = [Reason(code="no_node_fits", detail="no node fits", unblock="add a node")]
    await here.serve(name="waiting", state="starting", reasons=reasons)
    status, said, headers = await refusal(
        here.post("/v1/chat/completions", {"model": "waiting", "messages": [{"role": "user"}]})
    )
    assert (status, said["code"]) == (503, "endpoint_starting")
    assert said["reasons"] == [
        {"code": "no_node_fits", "detail": "no node fits", "unblock": "add a node"}
    ]
    assert headers["retry-after"]


async def test_unknown_paths_and_methods_are_refused_in_the_same_envelope(here: Town) -> None:
    status, said, _ = await refusal(here.post("/v1/images", {}))
    assert (status, said["code"]) == (404, "unknown_path")
    status, said, _ = await refusal(here.get("/v1/chat/completions"))
    assert (status, said["code"]) == (405, "method_not_allowed")
    status, said, _ = await refusal(here.post("/v1/models", {}))
    assert (status, said["code"]) == (405, "method_not_allowed")
