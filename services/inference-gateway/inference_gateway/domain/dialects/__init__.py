"""Other shapes of the same question: each is read into a chat completion and its answer said back.

The engine sees ``/v1/chat/completions`` only, so any engine serves every dialect, and tokens are
counted on one road. ``DIALECTS`` has them by path; ``tokenize`` counts without answering.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from inference_gateway.domain.dialects import (
    messages_in,
    messages_out,
    responses_in,
    responses_out,
    responses_stream,
)
from inference_gateway.domain.faults import Fault


class Speaker(Protocol):
    """Says one streamed answer: ``begin``, ``part`` as often as there are chunks, then one of the ends."""

    def begin(self) -> bytes:
        """Return what is sent before the first chunk; nothing the second time."""
        ...

    def part(self, chunks: list[bytes]) -> bytes:
        """Return what is sent for these chunks, each the JSON of one ``chat.completion.chunk``, in order.

        How they are grouped makes no difference. Raises one of ``UNREADABLE`` where a chunk is of another
        shape, and ``EventTooLong`` for an answer too long to be said again whole.
        """
        ...

    def end(self) -> bytes:
        """Return what is sent after the last chunk."""
        ...

    def broken(self, code: str, message: str) -> bytes:
        """Return what is sent instead, where the stream cannot go on: clients raise on it."""
        ...


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """One shape beside chat completions."""

    path: str
    name: str
    read: Callable[[bytes], bytes | Fault]
    """The client's body → a body of chat completions, or a refusal that names the field."""
    whole: Callable[[bytes, bytes, str, str, int], bytes]
    """(asked, answer, name, request id, Unix time) → a chat completion in this shape.

    Raises one of ``UNREADABLE`` where the answer is none."""
    speaker: Callable[[bytes, str, str, int], Speaker]
    """(asked, name, request id, Unix time) → who says one stream."""
    refusal: Callable[[Fault, str], bytes]
    """(fault, request id) → the body of an error."""
    key_header: bytes | None = None
    """Where this dialect's clients put the key, if not into ``authorization``."""
    id_header: bytes | None = None
    """Where they look for the request's id, if not into ``x-request-id``."""


RESPONSES = Dialect(
    path=responses_in.PATH,
    name="responses",
    read=responses_in.read,
    whole=responses_out.whole,
    speaker=responses_stream.Speaker,
    refusal=responses_out.refusal,
)
MESSAGES = Dialect(
    path=messages_in.PATH,
    name="messages",
    read=messages_in.read,
    whole=messages_out.whole,
    speaker=messages_out.Speaker,
    refusal=messages_out.refusal,
    key_header=b"x-api-key",
    id_header=b"request-id",
)
DIALECTS = {dialect.path: dialect for dialect in (RESPONSES, MESSAGES)}
