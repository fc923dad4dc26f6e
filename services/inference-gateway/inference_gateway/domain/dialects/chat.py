"""A chat completion as the dialects read it, whole or in chunks; and the ids and events they write."""

from typing import Any

import msgspec

from inference_gateway.domain.sse import EventTooLong
from inference_gateway.domain.stream import Tokens

HELD_BYTES_MAX = 64 * 1024**2
"""How much memory one answer may take that a speaker keeps to say it again whole, as some dialects must."""

PIECE_BYTES = 64
"""What a kept piece of text takes beside its own characters."""

LIKELIHOOD_BYTES = 512
"""What the log probability of one token takes, kept."""

encode = msgspec.json.encode


class Function(msgspec.Struct, frozen=True):
    """What a tool call calls; in chunks its arguments come piece by piece."""

    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct, frozen=True):
    """A tool call, or in a chunk a piece of one."""

    index: int | None = None
    id: str | None = None
    function: Function = Function()


class Message(msgspec.Struct, frozen=True):
    """What a model said, or in a chunk a piece of it. Engines spell its thoughts in two ways."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None

    @property
    def thoughts(self) -> str:
        """What the model thought, however its engine spells it."""
        return self.reasoning_content or self.reasoning or ""


class Logprobs(msgspec.Struct, frozen=True):
    """The likelihood of each token, as the engine wrote it."""

    content: list[dict[str, Any]] | None = None


class Choice(msgspec.Struct, frozen=True):
    """One answer, or in a chunk a piece of one."""

    index: int = 0
    message: Message = Message()
    delta: Message = Message()
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    logprobs: Logprobs | None = None

    @property
    def stop_sequence(self) -> str | None:
        """Which of the client's stop sequences ended it, where the engine says so."""
        return self.stop_reason if isinstance(self.stop_reason, str) else None

    @property
    def likelihoods(self) -> list[dict[str, Any]]:
        """The log probabilities of its tokens; none where none were asked for."""
        return (self.logprobs.content if self.logprobs else None) or []


class _Cached(msgspec.Struct, frozen=True):
    cached_tokens: Tokens | None = None


class _Thought(msgspec.Struct, frozen=True):
    reasoning_tokens: Tokens | None = None


class Usage(msgspec.Struct, frozen=True):
    """Token counts as an engine reports them; what it does not report is None."""

    prompt_tokens: Tokens = 0
    completion_tokens: Tokens = 0
    prompt_tokens_details: _Cached | None = None
    completion_tokens_details: _Thought | None = None

    @property
    def cached(self) -> int | None:
        """Prompt tokens that the engine had at hand already."""
        return self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else None

    @property
    def thought(self) -> int | None:
        """Completion tokens that were thoughts."""
        details = self.completion_tokens_details
        return details.reasoning_tokens if details else None


class Completion(msgspec.Struct, frozen=True):
    """A whole chat completion, or one chunk of it."""

    choices: list[Choice] = []
    usage: Usage | None = None

    @property
    def first(self) -> Choice | None:
        """The one answer that these dialects have; more are never asked for."""
        return next((choice for choice in self.choices if choice.index == 0), None)


completions = msgspec.json.Decoder(Completion)


class Calls:
    """The tool calls of one stream, put together from their pieces, in the order in which they began."""

    def __init__(self) -> None:
        self._at: dict[int, int] = {}

    def place_of(self, piece: ToolCall) -> int:
        """Return which call a piece belongs to; a new one has the next number.

        Engines that give no index begin a call with its id.
        """
        index = piece.index
        if index is None:
            index = max(self._at, default=-1) + (1 if piece.id or not self._at else 0)
        return self._at.setdefault(index, len(self._at))


class Budget:
    """Counts what one speaker keeps."""

    def __init__(self) -> None:
        self._held = 0

    def keep(self, text: str) -> None:
        """Count a piece of text in. Raises ``EventTooLong`` past ``HELD_BYTES_MAX``."""
        self._add(PIECE_BYTES + len(text))

    def keep_likelihoods(self, likelihoods: list[dict[str, Any]]) -> None:
        """Count log probabilities in, with those of the tokens beside them. Raises ``EventTooLong``."""
        told = sum(1 + len(token["top_logprobs"]) for token in likelihoods)
        self._add(told * LIKELIHOOD_BYTES)

    def _add(self, held: int) -> None:
        self._held += held
        if self._held > HELD_BYTES_MAX:
            raise EventTooLong


def suffix_of(request_id: str) -> str:
    """Return what of a request's id goes into the ids of what answers it."""
    return request_id.partition("_")[2] or request_id


def call_id(given: str | None, request_id: str, place: int) -> str:
    """Return a tool call's id: the engine's, else one derived from the request's."""
    return given or f"call_{suffix_of(request_id)}_{place}"


def event(name: str, said: dict[str, Any]) -> bytes:
    """Return a server-sent event whose name its data repeats as ``type``."""
    return b"event: " + name.encode() + b"\ndata: " + encode({"type": name, **said}) + b"\n\n"
