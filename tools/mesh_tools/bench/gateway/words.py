"""The bytes that are sent: what callers ask, what the mock upstream answers; made once, before the clock."""

import json
from typing import Any

MODEL = "bench"
SMALL_BYTES = 708
LARGE_BYTES = 32 * 1024
TOKENS = 100
"""Chunks with content in a stream."""
MARK = "~"
"""Stands once in each of those chunks and nowhere else, so that one byte tells what came through."""
EVENTS = TOKENS + 3
"""With the reason of the end, the usage, and ``[DONE]``."""
ANSWER_CHARACTERS = 189
"""Of text in an answer that is not streamed, which makes it 467 bytes."""
CREATED = 1_700_000_000
USAGE = {"prompt_tokens": 150, "completion_tokens": TOKENS, "total_tokens": 150 + TOKENS}


def body(model: str, size: int, *, stream: bool) -> bytes:
    """Return a chat request of exactly ``size`` bytes."""
    asked: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a careful assistant who answers in one paragraph."},
            {"role": "user", "content": ""},
        ],
        "max_tokens": 128,
        "temperature": 0.7,
    }
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    room = size - len(_json(asked))
    sentence = "What does a rack of servers draw at night? "
    asked["messages"][1]["content"] = (sentence * (room // len(sentence) + 1))[:room]
    made = _json(asked)
    assert len(made) == size
    return made


def request(host: str, path: str, headers: dict[str, str], sent: bytes) -> bytes:
    """Return a POST, head and body."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {host}",
        *(f"{name}: {value}" for name, value in headers.items()),
        "Content-Type: application/json",
        f"Content-Length: {len(sent)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + sent


def answer(shown: Any, status: str = "200 OK") -> bytes:
    """Return a response that holds ``shown`` as JSON."""
    sent = _json(shown)
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(sent)}\r\n\r\n"
    return head.encode() + sent


def completion() -> bytes:
    """Return the response to a request that does not stream."""
    said = "A rack draws at night what it draws by day, unless its work comes to an end. " * 3
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": said[:ANSWER_CHARACTERS]},
        "logprobs": None,
        "finish_reason": "stop",
    }
    return answer(_about("chat.completion", [choice], USAGE))


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def stream() -> list[bytes]:
    """Return a stream's chunks, one for each token; the last brings all that ends it."""
    made = []
    for number in range(TOKENS):
        delta = {"content": f" word{MARK}{number}"}
        if number == 0:
            delta["role"] = "assistant"
        made.append(_chunk(_event(_about("chat.completion.chunk", [_choice(delta)], None))))
    ending = [
        _event(_about("chat.completion.chunk", [_choice({}, "stop")], None)),
        _event(_about("chat.completion.chunk", [], USAGE)),
        b"data: [DONE]\n\n",
    ]
    made[-1] += b"".join(_chunk(event) for event in ending) + b"0\r\n\r\n"
    return made


def _about(kind: str, choices: list[dict[str, Any]], usage: dict[str, int] | None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-0123456789abcdef",
        "object": kind,
        "created": CREATED,
        "model": MODEL,
        "choices": choices,
        "usage": usage,
    }


def _choice(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": reason}


def _event(shown: dict[str, Any]) -> bytes:
    return b"data: " + _json(shown) + b"\n\n"


def _chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def _json(shown: Any) -> bytes:
    return json.dumps(shown, separators=(",", ":")).encode()
