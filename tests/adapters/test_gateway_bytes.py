"""What an engine sends arrives as it was sent, byte for byte, except where the gateway says it changes it."""

import json
import random
import re
from typing import Any

import msgspec
import pytest

from tests.adapters.clients import STAYS, Client, Saw
from tests.adapters.faulty_engine import Exchange, FaultyEngine, faulty
from tests.adapters.gateways import Town
from tests.adapters.sse_texts import LINE_ENDS, Style, cut, heard, written
from tests.house.tree import ROOT

pytestmark = pytest.mark.slow

MAY_DIFFER = ("model", "usage", "timings", "choices", "end", "error", "heartbeat")
"""All in which a client's bytes may differ from the engine's; ``DECISION`` says how, and that nothing else does."""
DECISION = ROOT / "contracts" / "decisions" / "0013-bytes-pass-as-they-came.md"

SEEDS, MANY_SEEDS = 12, 500
STYLES = {
    "as engines do": Style(ends=("\n",), comments=False, other_lines=False, multi_line=False),
    "with CRLF": Style(ends=("\r\n",)),
    "with CR": Style(ends=("\r",)),
    "with all ends": Style(),
    "with a byte order mark": Style(mark=True, ends=("\n", "\r\n")),
    "with an event of a megabyte": Style(huge=True),
}
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def test_all_in_which_bytes_may_differ_is_written_down_and_nothing_else() -> None:
    listed = re.findall(r"^- `(\w+)`: ", DECISION.read_text(), re.MULTILINE)
    assert tuple(listed) == MAY_DIFFER


@pytest.mark.parametrize("style", STYLES)
def test_each_stream_that_is_sent_here_is_one_that_a_reader_of_events_understands(style: str) -> None:
    for seed in range(3):
        chance = random.Random(f"{style} {seed}")
        raw = written(chance, "chat", STYLES[style])
        *chunks, end = [data for _, _, data in heard(raw)]
        assert end == "[DONE]"
        assert len([json.loads(chunk) for chunk in chunks]) == 10
        assert b"".join(cut(chance, raw)) == raw


class Said:
    """An engine's next answer, in pieces."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.kind = "text/event-stream"

    async def answer(self, x: Exchange) -> None:
        x.seen.made = 8
        await x.head(content_type=self.kind)
        for piece in self.pieces:
            await x.send(piece)
        await x.end()


async def asked(here: Town, engine: FaultyEngine, **fields: Any) -> Saw:
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "x"}], **fields}
    return await Client(here.door.port, here.key, STAYS, engine).ask(body)


def same(got: bytes, sent: bytes, what: str) -> None:
    """Fail, with the first place where they differ, unless both are the same bytes."""
    if got == sent:
        return
    at = next(
        (n for n, (a, b) in enumerate(zip(got, sent, strict=False)) if a != b), min(len(got), len(sent))
    )
    around = slice(max(at - 60, 0), at + 60)
    raise AssertionError(f"{what}: differs at {at}:\n got {got[around]!r}\nsent {sent[around]!r}")


@pytest.mark.parametrize("style", STYLES)
async def test_a_stream_arrives_byte_for_byte_wherever_its_reads_are_cut(
    here: Town, style: str
) -> None:
    await _relayed(here, style, range(3 if STYLES[style].huge else SEEDS))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("style", STYLES)
async def test_many_more_streams_arrive_byte_for_byte(here: Town, style: str) -> None:
    await _relayed(here, style, range(SEEDS, 30 if STYLES[style].huge else MANY_SEEDS))


async def _relayed(here: Town, style: str, seeds: range) -> None:
    said = Said()
    async with faulty(said.answer) as (engine,):
        await here.serve(engine.replica(), engine="external", model_id="chat")
        for seed in seeds:
            chance = random.Random(f"{style} {seed}")
            sent = written(chance, "chat", STYLES[style])
            said.pieces = cut(chance, sent)
            saw = await asked(here, engine, stream_options={"include_usage": True})
            # A last CR has ended the stream: the LF that belongs to it may come too late to be read.
            late = sent.endswith(b"\r\n") and saw.body == sent[:-1]
            same(saw.body, sent[:-1] if late else sent, f"{style}, seed {seed}")
        await _billed(here, len(seeds), 8)


async def _billed(here: Town, requests: int, words: int) -> None:
    """Fail unless each request has one row, with the engine's own count."""
    rows = await here.rows(requests, within_s=20)
    assert {(row.tokens_from, row.completion_tokens) for row in rows} == {("engine", words)}


async def test_an_event_that_is_changed_keeps_everything_but_what_is_changed(here: Town) -> None:
    said = Said()
    async with faulty(said.answer) as (engine,):
        await here.serve(engine.replica(), engine="external", model_id="weights")
        for seed in range(SEEDS):
            chance = random.Random(seed)
            sent = written(chance, "weights", Style(multi_line=False))
            said.pieces = cut(chance, sent)
            saw = await asked(here, engine, stream_options={"include_usage": True})
            assert len(heard(saw.body)) == len(heard(sent))
            for got, was in zip(heard(saw.body), heard(sent), strict=True):
                assert got[:2] == was[:2], f"seed {seed}: its type and id are not its own"
                assert renamed(got[2]) == renamed(was[2]), f"seed {seed}"
                assert "weights" not in got[2], f"seed {seed}"


def renamed(data: str) -> Any:
    """Return an event's fields in order, each as it is written, without the model's name."""
    if data == "[DONE]":
        return data
    return [(name, bytes(raw)) for name, raw in _fields.decode(data).items() if name != "model"]


@pytest.mark.parametrize("kind", ["llama", "vllm", "external"])
async def test_counts_that_only_the_gateway_asked_for_are_withheld_and_nothing_else(
    here: Town, kind: str
) -> None:
    counts = {
        "llama": {"timings": {"predicted_n": 1, "prompt_n": 4, "cache_n": 0}},
        "vllm": {"usage": {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5}},
        "external": {},
    }[kind]
    usage = {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5}
    choice = {"index": 0, "delta": {"content": "é"}, "finish_reason": None}
    finish = {"index": 0, "delta": {}, "finish_reason": "stop"}
    shown = [{"id": "c", "model": "chat", "choices": [one]} for one in (choice, finish)]
    sent = [{**one, **counts} for one in shown] + [
        {"id": "c", "model": "chat", "choices": [], "usage": usage}
    ]
    said = Said()
    async with faulty(said.answer) as (engine,):
        await here.serve(engine.replica(), engine=kind, model_id="chat")
        raw = b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in sent) + b"data: [DONE]\n\n"
        said.pieces = [raw]
        saw = await asked(here, engine)
        assert saw.events == [*shown, "[DONE]"]
        asked_usage = await asked(here, engine, stream_options={"include_usage": True})
        assert asked_usage.events[-2] == sent[-1]
        assert all("timings" not in event for event in asked_usage.events[:-1])


@pytest.mark.parametrize("end", LINE_ENDS)
async def test_a_finished_stream_without_its_end_is_given_one_and_what_follows_an_end_is_not_read(
    here: Town, end: str
) -> None:
    choice = {"index": 0, "delta": {"content": "é"}, "finish_reason": "stop"}
    first = f"data: {json.dumps({'model': 'chat', 'choices': [choice]})}{end}{end}".encode()
    said = Said()
    async with faulty(said.answer) as (engine,):
        await here.serve(engine.replica(), engine="external", model_id="chat")
        said.pieces = [first]
        same((await asked(here, engine)).body, first + b"data: [DONE]\n\n", "no end")
        ending = f"data: [DONE]{end}{end}".encode()
        said.pieces = [first, ending, b"data: {more}\n\n"]
        same((await asked(here, engine)).body, first + ending, "more after the end")


async def test_a_plain_answer_arrives_byte_for_byte_or_with_another_model_and_nothing_else(
    here: Town,
) -> None:
    said = Said()
    said.kind = "application/json"
    async with faulty(said.answer) as (engine,):
        for name in ("chat", "weights"):
            await here.serve(engine.replica(), engine="external", model_id=name)
            for seed in range(SEEDS):
                chance = random.Random(seed)
                sent = _plain(chance, name)
                said.pieces = cut(chance, sent)
                saw = await asked(here, engine, stream=False)
                if name == "chat":
                    same(saw.body, sent, f"seed {seed}")
                assert renamed(saw.body.decode()) == renamed(sent.decode())
                assert json.loads(saw.body)["model"] == "chat"


def _plain(chance: random.Random, model: str) -> bytes:
    text = written(
        chance, model, Style(multi_line=False, comments=False, other_lines=False, ends=("\n",))
    )
    message = {"role": "assistant", "content": text.decode()}
    said = {
        "x": [1.50, 1e-7, None, {"é": "\u2028"}],
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 8, "total_tokens": 12},
    }
    indent = chance.choice((None, 2))
    return json.dumps(said, ensure_ascii=chance.random() < 0.5, indent=indent).encode()


async def test_fields_that_the_gateway_does_not_know_reach_the_engine_as_they_were_written(
    here: Town,
) -> None:
    extra = (
        '"guided_json": {"type" : "object", "n": 1.500, "big": 12345678901234567890123},'
        ' "chat_template_kwargs":{"thinking":false}, "\\u00e9": "\\ud83d\\ude00\\/", "e":1e+2, "none":null'
    )
    said = Said()
    said.pieces = [
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    ]
    async with faulty(said.answer) as (engine,):
        await here.serve(engine.replica(), engine="external", model_id="weights")
        for shape in ('"stream": true', '"stream":true , "stream_options" : {"include_usage":true}'):
            raw = f'{{ "model" : "chat", {extra}, {shape}, "messages": [ {{"role":"user","content":"\\u00e9"}} ]}}'
            async with here.http.post(
                f"{here.base}/v1/chat/completions",
                data=raw.encode(),
                headers={"authorization": f"Bearer {here.key}", "content-type": "application/json"},
            ) as answer:
                assert answer.status == 200
                await answer.read()
            sent, reached = _fields.decode(raw), _fields.decode(engine.seen[-1].raw)
            ours = ("model", "stream_options")
            assert {k: bytes(v) for k, v in sent.items() if k not in ours} == {
                k: bytes(v) for k, v in reached.items() if k not in ours
            }
            assert bytes(reached["model"]) == b'"weights"'
