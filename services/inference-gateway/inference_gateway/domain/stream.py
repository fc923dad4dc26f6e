"""An engine's answer as it comes: what the client may see of it, and how many tokens it holds so far.

Everything here is pure: bytes in, bytes and counts out.
"""

from typing import Annotated, Any

import msgspec
from mesh_contracts.placement import EngineKind
from msgspec import Meta

from inference_gateway.domain.faults import UNREADABLE
from inference_gateway.domain.sse import data_of, with_data

TOKENS_MAX = 2**31
"""An engine that claims more for one request, or less than none, talks nonsense."""

Tokens = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]

DONE = b"data: [DONE]\n\n"
FAILING = (b"error:", b"event: error")
"""How an event begins by which an engine says that it failed."""


class _Details(msgspec.Struct, frozen=True):
    cached_tokens: Tokens | None = None


class Usage(msgspec.Struct, frozen=True):
    """Token counts as an engine reports them."""

    prompt_tokens: Tokens = 0
    completion_tokens: Tokens = 0
    prompt_tokens_details: _Details | None = None

    @property
    def cached_tokens(self) -> int | None:
        """How many prompt tokens the engine had at hand already, where it says so."""
        details = self.prompt_tokens_details
        return None if details is None else details.cached_tokens


class _Timings(msgspec.Struct, frozen=True):
    predicted_n: Tokens = 0
    prompt_n: Tokens = 0
    cache_n: Tokens = 0


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Choice(msgspec.Struct, frozen=True):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    usage: Usage | None = None
    timings: _Timings | None = None
    model: str | None = None
    error: Any = None


_chunks = msgspec.json.Decoder(_Chunk)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.encode


class Reading:
    """What has been read of one stream. ``take`` each event; then look at the attributes.

    ``tokens`` and ``prompt_tokens`` are the engine's counts so far where it gives them; a chunk with
    content that came since counts as one token. ``usage`` is the whole count of all ``choices``,
    once it came; ``final`` turns true with the event that carries it.
    """

    def __init__(
        self,
        engine: EngineKind,
        name: str,
        *,
        show_usage: bool,
        show_timings: bool = False,
        choices: int = 1,
    ) -> None:
        self._engine = engine
        # The built-in engine reports the usage of each choice by itself: they are summed.
        self._each = engine == "llama" and choices > 1
        self._usages: list[Usage] = []
        self._last_usage = b""
        self._name = name
        self._show_usage = show_usage
        self._show_timings = show_timings
        self._choices = choices
        self._finished: set[int] = set()
        self._by_index: dict[int, int] = {}
        self._chunks = 0
        self._reported = 0
        self.prompt_tokens: int | None = None
        self.usage: Usage | None = None
        self.final = False
        self.done = False
        self.last = DONE
        """The event that ended the stream, as the engine wrote it."""
        self.finish_reason: str | None = None
        self.fault: str | None = None

    @property
    def tokens(self) -> int:
        """Tokens the engine made so far, as far as this stream shows."""
        return self._reported + self._chunks

    def take_all(self, events: list[bytes]) -> list[bytes]:
        """Return what the client is sent for these events, up to a fault or the end."""
        shown = []
        for event in events:
            out = self.take(event)
            if out:
                shown.append(out)
            if self.fault is not None or self.done:
                break
        return shown

    def take(self, event: bytes) -> bytes:
        """Return what the client is sent for ``event``: as it is, changed, or nothing where it is withheld."""
        data = data_of(event)
        if data is None:
            return event
        if data == b"null":
            # The built-in engine may say nothing so; clients do not expect it.
            return b""
        if data == b"[DONE]":
            self.done = True
            self.last = event
            return self._summed() if self._usages else b""
        try:
            chunk = _chunks.decode(data)
        except UNREADABLE:
            chunk = None
        if chunk is None or chunk.error is not None or event.startswith(FAILING):
            failing = chunk is not None or event.startswith(FAILING)
            self.fault = "engine_error" if failing else "engine_malformed"
            return b""
        self._count(chunk)
        if self._each and chunk.usage is not None:
            self._usages.append(chunk.usage)
            self._last_usage = data
            if not chunk.choices:
                return b""
        return self._shown(event, data, chunk)

    def _summed(self) -> bytes:
        """Return one usage event for all choices."""
        first = self._usages[0]
        total = Usage(
            first.prompt_tokens,
            sum(usage.completion_tokens for usage in self._usages),
            first.prompt_tokens_details,
        )
        self.usage, self.final = total, True
        if not self._show_usage:
            return b""
        fields = _fields.decode(self._last_usage)
        if not self._show_timings:
            fields.pop("timings", None)
        shown = {
            "prompt_tokens": total.prompt_tokens,
            "completion_tokens": total.completion_tokens,
            "total_tokens": total.prompt_tokens + total.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": total.cached_tokens or 0},
        }
        fields["usage"] = msgspec.Raw(_encode(shown))
        fields["choices"] = msgspec.Raw(b"[]")
        fields["model"] = msgspec.Raw(_encode(self._name))
        return b"data: " + _encode(fields) + b"\n\n"

    def _count(self, chunk: _Chunk) -> None:
        for choice in chunk.choices:
            if _says_something(choice):
                self._chunks += 1
            if choice.finish_reason is not None:
                self.finish_reason = choice.finish_reason
                if len(self._finished) < self._choices:
                    self._finished.add(choice.index)
        if chunk.timings is not None and chunk.choices:
            if 0 <= chunk.choices[0].index < self._choices:
                self._by_index[chunk.choices[0].index] = chunk.timings.predicted_n
            self._report(sum(self._by_index.values()))
            self.prompt_tokens = chunk.timings.prompt_n + chunk.timings.cache_n
        if chunk.usage is None:
            return
        self.prompt_tokens = chunk.usage.prompt_tokens
        if self._each:
            return
        self._report(chunk.usage.completion_tokens)
        finished = len(self._finished) >= self._choices
        if not chunk.choices or (finished and self._engine != "vllm"):
            self.usage = chunk.usage
            self.final = True

    def _report(self, tokens: int) -> None:
        # An engine that always says nought has not counted: its chunks go on counting.
        if tokens and tokens >= self._reported:
            self._reported, self._chunks = tokens, 0

    def _shown(self, event: bytes, data: bytes, chunk: _Chunk) -> bytes:
        rename = chunk.model is not None and chunk.model != self._name
        if not rename and chunk.usage is None and chunk.timings is None:
            return event
        if chunk.usage is not None and not chunk.choices and not self._show_usage:
            return b""
        hide_usage = chunk.usage is not None and not (self.final and self._show_usage)
        hide_timings = chunk.timings is not None and not self._show_timings
        if not (hide_usage or hide_timings or rename):
            return event
        fields = _fields.decode(data)
        if hide_timings:
            del fields["timings"]
        if hide_usage:
            if self._show_usage:
                fields["usage"] = msgspec.Raw(b"null")
            else:
                del fields["usage"]
        if rename:
            fields["model"] = msgspec.Raw(_encode(self._name))
        return with_data(event, _encode(fields))


def error_event(code: str, message: str) -> bytes:
    """Return the event that ends a stream which cannot go on; clients raise on it."""
    body = {"error": {"message": message, "type": "server_error", "param": None, "code": code}}
    return b"data: " + _encode(body) + b"\n\n"


class _WholeChoice(msgspec.Struct, frozen=True):
    finish_reason: str | None = None


class _Whole(msgspec.Struct, frozen=True):
    usage: Usage | None = None
    model: str | None = None
    choices: list[_WholeChoice] | None = None


_wholes = msgspec.json.Decoder(_Whole)


class Whole(msgspec.Struct, frozen=True):
    """A plain answer as the client is sent it, what the engine counted, and why it ended."""

    body: bytes
    usage: Usage | None
    finish_reason: str | None


def whole_answer(raw: bytes, name: str) -> Whole:
    """Return a plain answer under the client's own model name.

    Raises one of ``UNREADABLE`` where it is not JSON of that shape.
    """
    answer = _wholes.decode(raw)
    reason = answer.choices[0].finish_reason if answer.choices else None
    if answer.model is not None and answer.model != name:
        fields = _fields.decode(raw)
        fields["model"] = msgspec.Raw(_encode(name))
        raw = _encode(fields)
    return Whole(raw, answer.usage, reason)


def _says_something(choice: _Choice) -> bool:
    if choice.text:
        return True
    delta = choice.delta
    return delta is not None and bool(
        delta.content or delta.reasoning_content or delta.reasoning or delta.refusal or delta.tool_calls
    )
