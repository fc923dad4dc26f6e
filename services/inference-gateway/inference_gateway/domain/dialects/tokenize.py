"""How many tokens a text or a chat has: asked of the engine itself, by the road that its kind has.

``read`` (or ``read_count``, in Anthropic's shape) the body, ``ask`` the engine, and ``hear`` what it
says: either the next thing to ask it, or the tokens. No token is made, so none is charged.
"""

from typing import Any

import msgspec
from mesh_contracts.placement import EngineKind

from inference_gateway.domain.dialects import messages_in
from inference_gateway.domain.dialects.reading import Fields, Refused, decoded, fields_of, missing
from inference_gateway.domain.faults import Fault

PATH = "/v1/tokenize"
COUNT_PATH = "/v1/messages/count_tokens"

TEMPLATE_FIELDS = (
    "messages",
    "tools",
    "tool_choice",
    "chat_template_kwargs",
    "add_generation_prompt",
    "continue_final_message",
    "add_special_tokens",
)
"""What changes a prompt's tokens: this goes to the engine, the rest of a body is not needed."""


class _Asked(msgspec.Struct, frozen=True):
    model: str
    prompt: str | None = None
    messages: list[dict[str, msgspec.Raw]] | None = None


class _Model(msgspec.Struct, frozen=True):
    model: str


_asked = msgspec.json.Decoder(_Asked)
_model = msgspec.json.Decoder(_Model)


class Text(msgspec.Struct, frozen=True):
    """What is to be counted: a prompt, or what a chat's template makes of messages."""

    model: str
    prompt: str | None
    fields: dict[str, msgspec.Raw]


class Question(msgspec.Struct, frozen=True):
    """What to ask the engine next: a POST of ``body`` to ``path``."""

    path: str
    body: bytes


class Counted(msgspec.Struct, frozen=True):
    """The tokens of a text; ``max_model_len`` where the engine says it."""

    count: int
    tokens: list[int]
    max_model_len: int | None = None


def read(raw: bytes) -> Text | Fault:
    """Return what is to be counted, or a refusal that names the field."""
    try:
        asked, fields = decoded(raw, _asked)
        if asked.prompt is not None and asked.messages:
            return Fault(
                status=422,
                code="invalid_field",
                param="prompt",
                message="Of 'prompt' and 'messages' one is counted at a time; send one of them.",
            )
        if asked.prompt is None and not asked.messages:
            raise missing("prompt", f"{PATH} without 'messages'")
    except Refused as refused:
        return refused.fault
    return Text(asked.model, asked.prompt, _that_count(fields))


def read_count(raw: bytes) -> Text | Fault:
    """Return what is to be counted of a body in Anthropic's shape, or a refusal that names the field."""
    chat = messages_in.read(raw)
    if isinstance(chat, Fault):
        return chat
    return Text(_model.decode(chat).model, None, _that_count(fields_of(chat)))


def ask(text: Text, engine: EngineKind, model_id: str) -> Question:
    """Return the first question to an engine of this kind.

    An external engine is asked as vLLM would be; one that has no such door refuses by itself.
    """
    if engine == "llama":
        if text.prompt is None:
            return Question("/apply-template", msgspec.json.encode(text.fields))
        return _tokens_of(text.prompt, text.fields.get("add_special_tokens", True))
    body: dict[str, Any] = {**text.fields, "model": model_id}
    if text.prompt is not None:
        body["prompt"] = text.prompt
    return Question("/tokenize", msgspec.json.encode(body))


def hear(question: Question, raw: bytes) -> Question | Counted:
    """Return what an engine's answer leads to. Raises one of ``UNREADABLE`` where it is no answer."""
    if question.path == "/apply-template":
        return _tokens_of(_templates.decode(raw).prompt)
    said = _answers.decode(raw)
    return Counted(len(said.tokens), said.tokens, said.max_model_len)


def unanswered(name: str) -> Fault:
    """Return the refusal where an engine knows no way to count: it said 404, 405 or 501."""
    return Fault(
        status=422,
        code="unsupported_by_engine",
        message=f"The engine of the model '{name}' does not tell tokens; count them by its tokenizer.",
    )


def answer(counted: Counted) -> bytes:
    """Return the tokens as ``/v1/tokenize`` says them."""
    return msgspec.json.encode(
        {
            "count": counted.count,
            "tokens": counted.tokens,
            "max_model_len": counted.max_model_len,
        }
    )


def answer_count(counted: Counted) -> bytes:
    """Return the tokens as Anthropic says them."""
    return msgspec.json.encode({"input_tokens": counted.count})


class _Template(msgspec.Struct, frozen=True):
    prompt: str


class _Answer(msgspec.Struct, frozen=True):
    tokens: list[int]
    max_model_len: int | None = None


_templates = msgspec.json.Decoder(_Template)
_answers = msgspec.json.Decoder(_Answer)


def _tokens_of(prompt: str, special: Any = True) -> Question:
    """Return the question for a prompt's tokens, counted as the engine itself counts a prompt."""
    body = {"content": prompt, "add_special": special, "parse_special": True}
    return Question("/tokenize", msgspec.json.encode(body))


def _that_count(fields: Fields) -> dict[str, msgspec.Raw]:
    return {name: fields[name] for name in TEMPLATE_FIELDS if name in fields}
