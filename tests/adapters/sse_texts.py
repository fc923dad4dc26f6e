"""Streams as an engine might write them: every liberty that server-sent events and JSON allow, from one seed.

``written`` gives the bytes, ``cut`` the borders at which they are sent; ``heard`` is what a reader of
server-sent events, written from the specification alone, makes of bytes.
"""

import json
import random
import re
from dataclasses import dataclass
from typing import Any

LINE_ENDS = ("\n", "\r\n", "\r")
TEXTS = (
    "word ",
    "déjà vu ",
    "日本語テキスト",
    "👩\u200d🔬 and \U0001d518\U0001d52b",
    "\u2028\u2029\u0085\ufeff",
    'quotes " and \\ and / and <b>&amp;</b>',
    "tabs\tand\nnew\r\nlines",
    "data: [DONE]",
    "",
    "\x00\x1f\x7f",
    "1e400 NaN 9007199254740993",
)
UNKNOWN: dict[str, Any] = {
    "system_fingerprint": "fp_é",
    "service_tier": None,
    "x_engine": {"deep": [[], {}, 1.50, -0.0, 1e-7, 12345678901234567890]},
    "prompt_token_ids": [1, 2, 3],
}
HUGE = 1024**2
SMALL = 3


@dataclass(frozen=True)
class Style:
    """Which liberties a stream takes."""

    ends: tuple[str, ...] = LINE_ENDS
    comments: bool = True
    other_lines: bool = True
    multi_line: bool = True
    spacing: bool = True
    huge: bool = False
    mark: bool = False


def written(chance: random.Random, model: str, style: Style, words: int = 8) -> bytes:
    """Return a whole stream: ``words`` chunks, a finish, usage, and the end."""
    parts = [b"\xef\xbb\xbf"] if style.mark else []
    for number in range(words):
        text = chance.choice(TEXTS)
        if style.huge and number == words // 2:
            text = "é" * (HUGE // 2)
        parts.append(_event(chance, style, _chunk(chance, model, {"content": text}, None)))
    parts.append(_event(chance, style, _chunk(chance, model, {}, "stop")))
    usage = {"prompt_tokens": 4, "completion_tokens": words, "total_tokens": 4 + words}
    parts.append(
        _event(
            chance,
            style,
            {"id": "c", "model": model, "choices": [], "usage": usage, **_unknown(chance)},
        )
    )
    end = chance.choice(style.ends)
    parts.append(f"data: [DONE]{end}{end}".encode())
    return b"".join(parts)


def _chunk(
    chance: random.Random, model: str, delta: dict[str, Any], finish: str | None
) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {"id": "c", "model": model, "choices": [choice], **_unknown(chance)}


def _unknown(chance: random.Random) -> dict[str, Any]:
    return {name: value for name, value in UNKNOWN.items() if chance.random() < 0.3}


def _event(chance: random.Random, style: Style, said: dict[str, Any]) -> bytes:
    end = chance.choice(style.ends)
    spaced = style.spacing and chance.random() < 0.4
    text = json.dumps(
        said,
        ensure_ascii=chance.random() < 0.5,
        indent=chance.choice((1, 2)) if style.multi_line and chance.random() < 0.3 else None,
        separators=chance.choice(((",", ":"), (" , ", " : "))) if spaced else None,
    )
    lines = [f"{chance.choice(('data:', 'data: '))}{line}" for line in text.split("\n")]
    if style.other_lines:
        extra = ("event: message", "id: 7", "id", "retry: 3000", "unknown: field", "nothing", "event:")
        lines[:0] = chance.sample(extra, chance.randrange(3))
    if style.comments:
        for _ in range(chance.randrange(3)):
            lines.insert(
                chance.randrange(len(lines) + 1), chance.choice((":", ": ping", ":é data: no"))
            )
    before = ""
    if style.comments and chance.random() < 0.2:
        before = f": alone{end}{end}" + end * chance.randrange(3)
    return (before + end.join(lines) + end + end).encode()


def cut(chance: random.Random, raw: bytes) -> list[bytes]:
    """Return ``raw`` in pieces, cut anywhere: within a character, between CR and LF, within a mark."""
    tight = chance.random() < 0.5 and len(raw) < 4_000
    most = SMALL if tight else max(len(raw) // 4, 2)
    pieces = []
    while raw:
        size = chance.randint(1, most)
        pieces.append(raw[:size])
        raw = raw[size:]
    return pieces


_END = re.compile(r"\r\n|\n|\r")


def heard(raw: bytes) -> list[tuple[str, str, str]]:
    """Return each event that a reader dispatches: its type, the last id, its data."""
    text = raw.decode("utf-8").removeprefix("\ufeff")
    found: list[tuple[str, str, str]] = []
    kind, last_id, data = "", "", []
    for line in _END.split(text)[:-1]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                found.append((kind, last_id, "\n".join(data)))
            kind, data = "", []
        elif name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            last_id = value
    return found
