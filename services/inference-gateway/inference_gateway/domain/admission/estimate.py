"""What a request may take at most, before any engine has seen it."""

import re
from collections.abc import Mapping

import msgspec
from mesh_contracts.placement import Routing

from inference_gateway.domain.body import CAPS, Operation

TOKENS_MAX = 2**53
"""A cap beyond it is taken as it: no counter is larger."""

UNMEASURED_TOKENS = 131_072
"""What images, sound, films and files are taken for at most, where the model declares no context.

Their tokens follow from what they show, not from their bytes: a few hundred bytes may be a large image.
"""

UNMEASURED = (
    b'"image_url"',
    b'"input_image"',
    b'"image"',
    b'"input_audio"',
    b'"audio_url"',
    b'"audio"',
    b'"video_url"',
    b'"input_video"',
    b'"video"',
    b'"input_file"',
    b'"file"',
    b'"document"',
    b'"image_embeds"',
    b'"audio_embeds"',
)
"""How such parts are named in what engines take."""

ESCAPED_LETTER = re.compile(rb"(?<!\\)(?:\\\\)*\\u00(?:[46][1-9a-fA-F]|[57][0-9aA]|5[fF])")

RESPACED = 2
"""Tokens that a template may add at each separator where it writes JSON anew (spaces, line ends)."""

CHOICES = ("n", "best_of", "n_cmpl")
CHOICES_MAX = 128
"""How many answers a number stands for that is written so that only some engines read it."""

_whole = msgspec.json.Decoder(int | None)


class Estimate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens at most. ``cap`` is how long one answer may be, where the body does not say so itself.

    Then the engine must be sent it as ``max_tokens``, in place of every field of ``CAPS``.
    """

    prompt_tokens: int
    answer_tokens: int
    cap: int | None = None

    @property
    def tokens(self) -> int:
        """Return both together."""
        return self.prompt_tokens + self.answer_tokens


def upper_bound(
    body: bytes,
    fields: Mapping[str, msgspec.Raw],
    routing: Routing,
    operation: Operation,
    prompts: int = 1,
) -> Estimate:
    """Return what a request may take at most, from its body as the client wrote it.

    A token of a byte-level vocabulary is a byte at least, and a text in JSON is no shorter than the
    text; all of the body counts, since any field may get into the prompt. The template adds
    ``overhead_tokens`` to each prompt; no prompt is longer than ``context_tokens``, where declared.
    """
    prompt = len(body) + routing.overhead_tokens * prompts
    # What tools are called says nothing of what a message holds.
    tools = "tools" in fields or "functions" in fields
    if tools or b"_call" in body:
        prompt += RESPACED * sum(body.count(mark) for mark in (b",", b":", b"{", b"["))
    context = routing.context_tokens
    if _unmeasured(bytes(fields.get(operation.needs, b"")) if tools else body):
        prompt = context * prompts or prompt + UNMEASURED_TOKENS
    elif context and not operation.embeds:
        # Of texts to embed there may be any number, each with a context of its own.
        prompt = min(prompt, context * prompts)
    if operation.embeds:
        return Estimate(prompt_tokens=prompt, answer_tokens=0)
    each, cap = _cap(fields, routing.answer_tokens)
    if context:
        each = min(each, context)
    if "n" in fields or "best_of" in fields or "n_cmpl" in fields:
        each *= _choices(fields)
    return Estimate(prompt_tokens=prompt, answer_tokens=each * prompts, cap=cap)


def _cap(fields: Mapping[str, msgspec.Raw], otherwise: int) -> tuple[int, int | None]:
    """Return an answer's cap, and once more where the engine must be told."""
    given = [_number(fields[name]) for name in CAPS if name in fields]
    if len(given) == 1 and given[0] and given[0] > 0 and "n_predict" not in fields:
        return given[0], None
    # Several, or one that engines take for "without end": the engine is told a single one.
    known = [cap for cap in given if cap is not None and cap >= 0]
    cap = min(known, default=otherwise)
    return cap, cap


def _choices(fields: Mapping[str, msgspec.Raw]) -> int:
    """Return how many answers are made to a prompt; a number that cannot be read is a large one."""
    given = [fields[name] for name in CHOICES if name in fields]
    known = [_number(raw) for raw in given if bytes(raw) != b"null"]
    return max([1, *(CHOICES_MAX if number is None else number for number in known)])


def _number(raw: msgspec.Raw) -> int | None:
    try:
        number = _whole.decode(raw)
    except msgspec.DecodeError:
        return None
    return None if number is None else min(number, TOKENS_MAX)


def _unmeasured(body: bytes) -> bool:
    """Tell whether there may be parts whose tokens no length bounds; they stand in a list within a list.

    Within a text a quotation mark is escaped, so that what is found here is a name, or a whole text.
    """
    if body.count(b"[") < 2:
        return False
    return any(mark in body for mark in UNMEASURED) or (
        # A name may be written with escapes, letters are seldom for another reason.
        b"\\u00" in body and ESCAPED_LETTER.search(body) is not None
    )
