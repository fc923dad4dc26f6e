"""An engine that says what a test wrote down: real HTTP, and nothing of a model."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def tool_calls() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return two tool calls: as one message, and as the deltas of a stream."""
    names = [("call_a", "weather", '{"city": "Paris"}'), ("call_b", "clock", "{}")]
    calls = [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
        for id_, name, arguments in names
    ]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "reasoning_content": "hm"}]
    for index, (id_, name, arguments) in enumerate(names):
        function = {"name": name, "arguments": ""}
        deltas.append(
            {"tool_calls": [{"index": index, "id": id_, "type": "function", "function": function}]}
        )
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": arguments[at : at + 5]}}]}
            for at in range(0, len(arguments), 5)
        ]
    message = {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": calls}
    return message, deltas


class ScriptedEngine(ThreadingHTTPServer):
    """Answers each chat with two tool calls, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedEngine
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(asked)
        message, deltas = tool_calls()
        if not asked.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
            same = {"id": "c", "object": "chat.completion", "created": 1, "model": "weights"}
            whole = {**same, "choices": [choice], "usage": USAGE}
            self._say("application/json", json.dumps(whole).encode())
            return
        choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
        said: list[dict[str, Any]] = [{"choices": [one]} for one in choices]
        said.append({"choices": [], "usage": USAGE})
        same = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "weights"}
        lines = [f"data: {json.dumps({**same, **one})}\n\n" for one in said]
        self._say("text/event-stream", "".join([*lines, "data: [DONE]\n\n"]).encode())

    def _say(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def scripted_engine() -> Iterator[ScriptedEngine]:
    """Run one for the length of a block."""
    with ScriptedEngine() as engine:
        threading.Thread(target=engine.serve_forever, daemon=True).start()
        yield engine
        engine.shutdown()
