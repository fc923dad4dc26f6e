"""What clients say and models answer is written down nowhere, however a request ends."""

import asyncio
import http.client
import json
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from mesh_tools.demo.client import Answered

from tests.adapters.faulty_engine import Behaviour, Exchange, FaultyEngine
from tests.mesh.canary import bodies, dresses, found, in_files, plant, worn
from tests.mesh.harness import Mesh, running, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CHAT, COMPLETE, EMBED = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
TOO_LARGE = 9 * 1024**2
RECORDED_WITHIN_S = 45.0


def echoing(text: str) -> list[Behaviour]:
    """Return an engine's ways to repeat the prompt: in answers, in refusals, in what breaks off."""
    error = json.dumps(
        {"error": {"message": f"cannot take {text}", "type": text, "code": text}}
    ).encode()

    async def answers(x: Exchange) -> None:
        if x.stream:
            await x.head(x_said=text)
            for finish in (None, "stop"):
                delta = {"content": text, "reasoning_content": text}
                await x.event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
            await x.event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
            await x.event("[DONE]")
            await x.end()
            return
        said = {"choices": [{"index": 0, "message": {"content": text}, "finish_reason": text}]}
        await x.whole(200, json.dumps({**said, "usage": {"prompt_tokens": 1}}).encode(), x_said=text)

    def refuses(status: int) -> Behaviour:
        async def refuse(x: Exchange) -> None:
            await x.whole(status, error, x_said=text, retry_after=text)

        return refuse

    async def errs(x: Exchange) -> None:
        await x.head(content_type="text/event-stream")
        await x.event({"choices": [{"index": 0, "delta": {"content": text}}]})
        await x.send(b"data: " + error + b"\n\n")
        await x.end()

    async def breaks(x: Exchange) -> None:
        await x.head(content_type="text/event-stream")
        await x.event({"choices": [{"index": 0, "delta": {"content": text}}]})
        await x.reset()

    async def babbles(x: Exchange) -> None:
        await x.head(content_type="text/event-stream")
        await x.send(f'data: {{"{text}": "{text}\n\n'.encode())
        await x.end()

    async def speaks_no_http(x: Exchange) -> None:
        await x.line.write(f"{text} {text}\r\n{text}\r\n\r\n".encode())
        await x.close()

    refusals = [refuses(status) for status in (400, 404, 413, 422, 429, 500, 503)]
    return [answers, *refusals, errs, breaks, babbles, speaks_no_http]


class Speaking:
    """A client that says the canary in every way it can; ``admitted`` are the requests that have rows."""

    def __init__(self, mesh: Mesh, text: str) -> None:
        self._mesh = mesh
        self._text = text
        self.admitted: set[str] = set()

    def say(self, path: str, body: Any) -> Answered | None:
        with suppress(http.client.HTTPException, OSError):
            answered = self._mesh.tenant.call("POST", path, body)
            if answered.status == 200:
                self.admitted.add(answered.headers["x-request-id"])
            return answered
        return None

    def send(self, path: str, raw: bytes, *, leaves: bool = False) -> None:
        """Send bytes as they are; ``leaves`` goes away in the middle of the answer."""
        address = urlsplit(self._mesh.url)
        assert address.hostname is not None
        line = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        headers = {"authorization": f"Bearer {self._mesh.ready['project_key']}"}
        with suppress(http.client.HTTPException, OSError):
            line.request("POST", path, raw, headers)
            answer = line.getresponse()
            answer.read(200) if leaves else answer.read()
        line.close()

    def to_the_builtin_engines(self) -> None:
        for body in bodies(self._text):
            for stream in (False, True):
                self.say(CHAT, {"model": "tiny", "max_tokens": 4, "stream": stream, **body})
        self.say(COMPLETE, {"model": "tiny", "max_tokens": 4, "prompt": self._text})
        self.say(EMBED, {"model": "all-minilm-l6-v2", "input": [self._text]})
        first = {"model": "tiny", "stream": True, "max_tokens": 400, "ignore_eos": True}
        self.send(CHAT, json.dumps({**first, **bodies(self._text)[0]}).encode(), leaves=True)

    def what_is_refused(self) -> None:
        text, say = self._text, bodies(self._text)[0]
        escaped = "".join(f"\\u{ord(char):04x}" for char in text)
        self.send(CHAT, f'{{"model":"tiny","messages":[{{"content":"{text}'.encode())
        self.send(
            CHAT, f'{{"model":"{escaped}","messages":["{escaped}"],"stream":"{escaped}"}}'.encode()
        )
        self.send(CHAT, text.encode("utf-16"))
        self.send(
            CHAT, json.dumps({"model": "tiny", **say, "pad": text * (TOO_LARGE // len(text))}).encode()
        )
        self.send(f"/v1/{quote(text)}?q={quote(text)}", b"{}")
        for wrong in (
            {"messages": text},
            {"max_tokens": text},
            {"temperature": [text]},
            {"model": text},
        ):
            self.say(CHAT, {"model": "tiny", **say, **wrong})
        self.say(COMPLETE, {"model": "tiny", "prompt": {"deep": text}})
        self.say(EMBED, {"model": "tiny", "input": text})

    def to(self, model: str) -> None:
        for stream in (False, True):
            self.say(CHAT, {"model": model, "stream": stream, **bodies(self._text)[0]})


async def spoken(mesh: Mesh, text: str) -> set[str]:
    """Say ``text`` to a mesh in every way; return the admitted requests."""
    client = Speaking(mesh, text)
    engine = FaultyEngine([])
    await engine.start()
    try:
        wish = {
            "name": "echo",
            "project": "demo",
            "model": {"id": "echo", "source": "external"},
            "engine": {"kind": "external", "url": f"http://{engine.address}"},
        }
        made = await asyncio.to_thread(mesh.operator.call, "POST", "/api/v1/endpoints", wish)
        assert made.status < 300, made.body
        await asyncio.to_thread(_serves, mesh, "echo")
        for behaviour in echoing(text):
            engine.then(behaviour)
            await asyncio.to_thread(client.to, "echo")
        assert len(engine.seen) >= len(echoing(text)) * 2
        for more in (client.to_the_builtin_engines, client.what_is_refused):
            await asyncio.to_thread(more)
    finally:
        await engine.stop()
    return client.admitted


def _serves(mesh: Mesh, model: str) -> None:
    def listed() -> bool | None:
        models = mesh.tenant.get("/v1/models")["data"]
        return True if model in {one["id"] for one in models} else None

    until(f"{model} is served", 20.0, listed)


def test_what_was_said_is_in_no_log_span_stream_bucket_table_or_journal(tmp_path: Path) -> None:
    said, planted = (f"canary{secrets.token_hex(16)}bird" for _ in range(2))
    with running(tmp_path / "mesh") as mesh:
        admitted = asyncio.run(spoken(mesh, said))
        assert len(admitted) > 10
        for request_id in admitted:
            mesh.record(request_id, seconds=RECORDED_WITHIN_S)
        where = asyncio.run(plant(mesh, planted))
        both = {("said", form): raw for form, raw in dresses(said).items()}
        both |= {("planted", form): raw for form, raw in dresses(planted).items()}
        seen = asyncio.run(found(mesh, both))
    assert sorted((place, form) for place, (text, form) in seen if text == "said") == []
    # The same search finds what was put there.
    assert where - {place for place, (text, _) in seen if text == "planted"} == set()
    # What was flushed at the end, too; and spans were written, so that there was something to search.
    files = list(in_files(tmp_path / "mesh"))
    left = {(place, form) for place, data in files for form in worn(dresses(said), data)}
    assert left == set()
    spans = b"".join(data for place, data in files if place.startswith("file traces/"))
    assert any(request_id.encode() in spans for request_id in admitted)


@pytest.mark.parametrize("dress", list(dresses("a text")))
def test_each_form_of_a_text_is_found_wherever_it_stands(dress: str) -> None:
    text = f"canary{secrets.token_hex(16)}bird"
    assert dress in worn(dresses(text), b"before " + dresses(text)[dress] + b" after")
    assert worn(dresses(text), b"before after") == []
