"""What an engine does wrong, by name: behaviours of the faulty engine, plain and streamed alike."""

import asyncio
import json
from typing import Any

from tests.adapters.faulty_engine import Behaviour, Exchange

HALF, WORDS = 3, 6
SLOW_S = 0.4
ABSURD = -(2**40)
ERROR = {"error": {"message": "it failed", "type": "server_error", "code": 500}}


async def word(x: Exchange) -> None:
    """Make one token: count it, then send it, with the counts that the gateway asked for."""
    x.seen.made += 1
    choice = {"index": 0, "delta": {"content": "word "}, "finish_reason": None}
    await x.event(_chunk(x, [choice], _counts(x)))


def _chunk(x: Exchange, choices: list[Any], more: dict[str, Any]) -> dict[str, Any]:
    model = x.seen.body["model"]
    return {"id": "c", "object": "chat.completion.chunk", "model": model, "choices": choices, **more}


def _counts(x: Exchange) -> dict[str, Any]:
    asked = x.seen.body
    if asked.get("timings_per_token"):
        return {"timings": {"cache_n": 0, "prompt_n": x.seen.prompt_tokens, "predicted_n": x.seen.made}}
    if (asked.get("stream_options") or {}).get("continuous_usage_stats"):
        return {"usage": _usage(x, x.seen.made)}
    return {}


def _usage(x: Exchange, made: int) -> dict[str, int]:
    prompt = x.seen.prompt_tokens
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


async def some(x: Exchange) -> None:
    """Answer as far as the middle."""
    await x.at("head")
    if x.stream:
        await x.head()
        for _ in range(HALF):
            await word(x)
    else:
        body = _plain(x, "true")
        await x.head(content_length=len(body))
        await x.send(body[: len(body) // 2])
    await x.at("middle")


def _plain(x: Exchange, usage: str) -> bytes:
    x.seen.made = WORDS
    message = {"role": "assistant", "content": "word " * WORDS}
    said: dict[str, Any] = {
        "model": x.seen.body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }
    if usage != "none":
        said["usage"] = _told(x, usage)
    return json.dumps(said).encode()


def _told(x: Exchange, usage: str) -> dict[str, int]:
    """Return the usage as this engine tells it, and note what it told."""
    told = _usage(x, x.seen.made)
    if usage == "zero":
        told = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    if usage == "absurd":
        told["completion_tokens"] = ABSURD
    x.seen.reported = (told["prompt_tokens"], told["completion_tokens"])
    return told


def answers(usage: str = "true", *, after_s: float = 0.0, done: bool = True) -> Behaviour:
    """Return a whole answer; ``usage`` is ``true``, ``none``, ``zero`` or ``absurd``."""

    async def answer(x: Exchange) -> None:
        await asyncio.sleep(after_s)
        if not x.stream:
            await x.at("head")
            body = _plain(x, usage)
            await x.head(content_length=len(body))
            await x.send(body[: len(body) // 2])
            await x.at("middle")
            await x.send(body[len(body) // 2 :])
            return
        await some(x)
        for _ in range(WORDS - HALF):
            await word(x)
        await x.event(_chunk(x, [{"index": 0, "delta": {}, "finish_reason": "stop"}], {}))
        if usage != "none":
            await x.event(_chunk(x, [], {"usage": _told(x, usage)}))
        if done:
            await x.event("[DONE]")
        await x.end()

    return answer


async def resets_before_headers(x: Exchange) -> None:
    await x.at("head")
    await x.reset()


async def resets_after_headers(x: Exchange) -> None:
    await x.at("head")
    await x.head(**({} if x.stream else {"content_length": 1_000}))
    await x.reset()


async def resets_midway(x: Exchange) -> None:
    await some(x)
    await x.reset()


async def closes_before_headers(x: Exchange) -> None:
    await x.at("head")
    await x.close()


async def stalls_before_headers(x: Exchange) -> None:
    await x.at("head")
    await x.stall()


async def stalls_after_headers(x: Exchange) -> None:
    await x.at("head")
    await x.head(**({} if x.stream else {"content_length": 1_000}))
    await x.stall()


async def stalls_midway(x: Exchange) -> None:
    await some(x)
    await x.stall()


async def truncates(x: Exchange) -> None:
    """End in order in the middle of the answer: no finish, no ``[DONE]``, or half a JSON."""
    if x.stream:
        await some(x)
        await x.end()
        return
    await x.at("head")
    half = _plain(x, "true")
    await x.whole(200, half[: len(half) // 2])


async def hangs_up_midway(x: Exchange) -> None:
    """Close in order before the body has ended as it was framed."""
    await some(x)
    await x.close()


async def speaks_no_http(x: Exchange) -> None:
    await x.at("head")
    await x.line.write(b"\x16\x03\x01 this is no HTTP at all\r\n\r\n")
    await x.close()


async def speaks_no_json(x: Exchange) -> None:
    await x.at("head")
    if not x.stream:
        await x.whole(200, b"<html>not what you asked for</html>")
        return
    await x.head()
    await x.event("{not json")
    await x.end()


async def speaks_html(x: Exchange) -> None:
    await x.at("head")
    await x.whole(200, b"<html>not what you asked for</html>", content_type="text/html")


async def ends_in_half_an_event(x: Exchange) -> None:
    if not x.stream:
        await truncates(x)
        return
    await some(x)
    await x.send(b'data: {"choices":[{"index":0,"del')
    await x.end()


async def errs_midway(x: Exchange) -> None:
    if not x.stream:
        await fails(x)
        return
    await some(x)
    await x.event(ERROR)
    await x.end()


async def busy(x: Exchange) -> None:
    await x.at("head")
    await x.whole(429, json.dumps(ERROR).encode(), retry_after=7)


async def fails(x: Exchange) -> None:
    await x.at("head")
    await x.whole(500, json.dumps(ERROR).encode())


async def loads(x: Exchange) -> None:
    await x.at("head")
    await x.whole(503, json.dumps(ERROR).encode())


def first_met(fault: Behaviour) -> Behaviour:
    """Return ``fault`` for whichever engine is asked first, for good; a whole answer for the others."""
    met: list[object] = []

    async def answer(x: Exchange) -> None:
        met.append(x.engine)
        await (fault if x.engine is met[0] else answers())(x)

    return answer


REFUSES = "refuses"
FAULTS: dict[str, Behaviour] = {
    "none": answers(),
    REFUSES: answers(),
    "resets_before_headers": resets_before_headers,
    "closes_before_headers": closes_before_headers,
    "resets_after_headers": resets_after_headers,
    "resets_midway": resets_midway,
    "stalls_before_headers": stalls_before_headers,
    "stalls_after_headers": stalls_after_headers,
    "stalls_midway": stalls_midway,
    "truncates": truncates,
    "hangs_up_midway": hangs_up_midway,
    "speaks_no_http": speaks_no_http,
    "speaks_no_json": speaks_no_json,
    "speaks_html": speaks_html,
    "ends_in_half_an_event": ends_in_half_an_event,
    "errs_midway": errs_midway,
    "busy_429": busy,
    "fails_500": fails,
    "loads_503": loads,
    "slow_first_byte": answers(after_s=SLOW_S),
    "no_usage": answers("none"),
    "zero_usage": answers("zero"),
    "absurd_usage": answers("absurd"),
    "no_done": answers(done=False),
}
ANSWERS_WHOLE = {"none", "slow_first_byte", "no_usage", "zero_usage", "absurd_usage", "no_done"}
BEFORE_ITS_FIRST_BYTE = {
    REFUSES,
    "resets_before_headers",
    "closes_before_headers",
    "resets_after_headers",
    "stalls_before_headers",
    "stalls_after_headers",
    "speaks_no_http",
    "speaks_no_json",
    "busy_429",
    "fails_500",
    "loads_503",
}
"""After these another replica can still answer: nothing of an answer has come."""
BEFORE_THE_CLIENTS_FIRST_BYTE = BEFORE_ITS_FIRST_BYTE | {
    "resets_midway",
    "stalls_midway",
    "truncates",
    "hangs_up_midway",
    "speaks_html",
}
"""After these, too, where the answer is plain: its client is sent nothing before it is whole."""
