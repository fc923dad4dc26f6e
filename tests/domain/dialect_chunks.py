"""What the tests of the dialects share: chat completions as engines write them, whole and in chunks."""

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

REQUEST_ID = "request_01990000-0000-7000-8000-000000000001"
NOW_S = 1_790_000_000

FEW = settings(max_examples=25)
"""Each example is a whole stream, held against pydantic's models: some are enough."""

Said = dict[str, Any]


def chunk(finish_reason: str | None = None, **delta: Any) -> bytes:
    """Return one chunk whose delta has these fields."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _sent(choices=[choice])


def usage_chunk(prompt: int = 9, made: int = 4, **details: Any) -> bytes:
    """Return the chunk that ends a stream with the counts."""
    return _sent(choices=[], usage=usage(prompt, made, **details))


def usage(prompt: int = 9, made: int = 4, **details: Any) -> Said:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
        **details,
    }


def call_piece(
    index: int, arguments: str = "", *, call: str | None = None, name: str | None = None
) -> Said:
    """Return a piece of a tool call; the first one has an id and a name."""
    piece: Said = {"index": index, "function": {"arguments": arguments}}
    if name is not None:
        piece |= {"id": call, "type": "function", "function": {"name": name, "arguments": arguments}}
    return piece


def whole(finish_reason: str = "stop", **message: Any) -> bytes:
    """Return a plain answer."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None, **message},
        "finish_reason": finish_reason,
    }
    return json.dumps({"id": "c", "model": "weights", "choices": [choice], "usage": usage()}).encode()


def _sent(**fields: Any) -> bytes:
    return json.dumps(
        {"id": "c", "object": "chat.completion.chunk", "model": "weights", **fields}
    ).encode()


words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
arguments = st.dictionaries(words, st.integers(), max_size=3).map(json.dumps)


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Draw an answer: whole, and as chunks. The pieces of its tool calls may alternate."""
    thoughts = draw(st.lists(words, max_size=3))
    said = draw(st.lists(words, max_size=4))
    calls = draw(st.lists(arguments, max_size=3))
    message: Said = {"content": "".join(said) or None}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = [
            {
                "id": f"call_{place}",
                "type": "function",
                "function": {"name": f"f{place}", "arguments": text},
            }
            for place, text in enumerate(calls)
        ]
    finish_reason = "tool_calls" if calls else draw(st.sampled_from(["stop", "length"]))
    spelled = draw(st.sampled_from(["reasoning_content", "reasoning"]))
    chunks = [chunk(role="assistant", content="")]
    chunks += [chunk(**{spelled: text}) for text in thoughts]
    chunks += [chunk(content=text) for text in said]
    for place in range(len(calls)):
        chunks.append(chunk(tool_calls=[call_piece(place, call=f"call_{place}", name=f"f{place}")]))
    cut = draw(st.integers(1, 5))
    pieces = [
        call_piece(place, text[at : at + cut])
        for place, text in enumerate(calls)
        for at in range(0, len(text), cut)
    ]
    # Any order in which the pieces of each call stay in theirs.
    order = draw(st.permutations([piece["index"] for piece in pieces]))
    queues = {
        place: [piece for piece in pieces if piece["index"] == place] for place in range(len(calls))
    }
    chunks += [chunk(tool_calls=[queues[place].pop(0)]) for place in order]
    chunks += [chunk(finish_reason), usage_chunk()]
    return whole(finish_reason, **message), chunks


@st.composite
def grouped(draw: st.DrawFn, chunks: list[bytes]) -> list[list[bytes]]:
    """Draw a way in which the same chunks may arrive together."""
    groups: list[list[bytes]] = [[]]
    for one in chunks:
        if draw(st.booleans()):
            groups.append([])
        groups[-1].append(one)
    return groups


def spoken(speaker: Any, groups: list[list[bytes]]) -> bytes:
    """Return all that a speaker says of a stream that ends well."""
    return b"".join([speaker.begin(), *(speaker.part(group) for group in groups), speaker.end()])


def events(raw: bytes) -> list[Said]:
    """Return the data of server-sent events; each is named as its data's type."""
    found = []
    for event in raw.decode().split("\n\n")[:-1]:
        named, _, data = event.partition("\n")
        said = json.loads(data.removeprefix("data: "))
        assert named == f"event: {said['type']}"
        found.append(said)
    return found
