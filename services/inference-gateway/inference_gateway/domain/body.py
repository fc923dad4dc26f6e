"""A request's body: read once, checked, and turned into what the engine is sent."""

from contextlib import suppress
from typing import Any

import msgspec
from mesh_contracts.placement import EngineKind

from inference_gateway.domain.faults import UNREADABLE, Fault, invalid_json, wrong_field

OURS = ("lora", "id_slot", "n_cmpl")
"""Fields of the built-in engine that are never a tenant's to send: two would reach into another request's
slot, and one is its own word for ``n``, which makes answers that it does not count."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One of the hot routes: where it is, what its span is called, which field it cannot do without."""

    path: str
    name: str
    needs: str
    streams: bool
    embeds: bool = False


CHAT = Operation(path="/v1/chat/completions", name="chat", needs="messages", streams=True)
COMPLETE = Operation(path="/v1/completions", name="text_completion", needs="prompt", streams=True)
EMBED = Operation(path="/v1/embeddings", name="embeddings", needs="input", streams=False, embeds=True)
OPERATIONS = {operation.path: operation for operation in (CHAT, COMPLETE, EMBED)}


class StreamOptions(msgspec.Struct, frozen=True):
    """What a client wants to be told within a stream."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


CAPS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict")
"""The fields by which engines are told how long an answer may be; which one wins differs among them."""

EMPTY = msgspec.Raw(b"[]")
SESSION_CHARS_MAX = 256
SESSIONS = ("prompt_cache_key", "safety_identifier", "user")
"""The fields that name a session, the finest first."""


class _Common(msgspec.Struct, frozen=True):
    """What is checked here; every other field is the engine's to judge and passes through."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    timings_per_token: bool | None = None


class _Chat(_Common, frozen=True):
    messages: msgspec.Raw = EMPTY


class _Complete(_Common, frozen=True):
    prompt: str | list[Any] = ""


class _Embed(_Common, frozen=True):
    input: str | list[Any] = ""


_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    CHAT.path: msgspec.json.Decoder(_Chat),
    COMPLETE.path: msgspec.json.Decoder(_Complete),
    EMBED.path: msgspec.json.Decoder(_Embed),
}
_words = msgspec.json.Decoder(str)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.encode


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A checked body: what the door needs of it, and all its fields as they were written."""

    model: str
    stream: bool
    show_usage: bool
    show_timings: bool
    choices: int
    prompts: int
    fields: dict[str, msgspec.Raw]
    body: bytes
    session: str | None = None
    """What keeps the requests of one conversation or user together, where the client says it."""
    tier: str | None = None
    """The client's ``service_tier``: where the request waits, if it has to."""


def read(raw: bytes, operation: Operation) -> Wanted | Fault:
    """Return what the client wants, or 400 (not JSON) or 422 (a field is wrong) naming the field."""
    try:
        body = _DECODERS[operation.path].decode(raw)
        fields = _FIELDS.decode(raw)
    except msgspec.ValidationError as fault:
        return wrong_field(str(fault))
    except UNREADABLE:
        return invalid_json()
    missing = _missing(body, fields, operation)
    if missing is not None:
        return missing
    options = body.stream_options
    stream = bool(body.stream) and operation.streams
    return Wanted(
        model=body.model,
        stream=stream,
        show_usage=options is not None and bool(options.include_usage),
        show_timings=bool(body.timings_per_token),
        choices=max(body.n or 1, 1),
        prompts=_prompts(getattr(body, "prompt", "")),
        fields=fields,
        body=raw,
        session=_text(fields, *SESSIONS),
        tier=_text(fields, "service_tier"),
    )


def _missing(body: Any, fields: dict[str, msgspec.Raw], operation: Operation) -> Fault | None:
    """Return the refusal where what the operation cannot do without is absent, empty or no list of messages."""
    needed = getattr(body, operation.needs)
    if operation.needs in fields and needed:
        if not isinstance(needed, msgspec.Raw):
            return None
        text = bytes(needed)
        if text.startswith(b"[") and text[1:].lstrip() != b"]":
            return None
        if not text.startswith((b"[", b"null")):
            return wrong_field(f"Expected `array`, got something else - at `$.{operation.needs}`")
    return Fault(
        status=422,
        code="missing_field",
        param=operation.needs,
        message=f"The field '{operation.needs}' is missing or empty; {operation.path} cannot do without it.",
    )


def _text(fields: dict[str, msgspec.Raw], *names: str) -> str | None:
    for name in names:
        if name in fields:
            with suppress(*UNREADABLE):
                return _words.decode(fields[name])[:SESSION_CHARS_MAX]
    return None


def _prompts(prompt: str | list[Any]) -> int:
    """Return how many prompts there are; a list of numbers is one, as tokens."""
    return len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1


def uncountable(wanted: Wanted, engine: EngineKind) -> Fault | None:
    """Return why a request is refused whose tokens the engine would not count whole.

    The built-in engine reports one answer's tokens where it makes several at once; what is not
    counted cannot be billed. In a stream of several answers to one prompt it reports each.
    """
    if engine != "llama" or (wanted.prompts == 1 and (wanted.choices == 1 or wanted.stream)):
        return None
    param = "prompt" if wanted.prompts > 1 else "n"
    other = "Send one prompt at a time" if wanted.prompts > 1 else "Set 'stream' to true, or 'n' to 1"
    return Fault(
        status=422,
        code="unsupported_by_engine",
        param=param,
        message=f"The built-in engine does not count several answers at once. {other}.",
    )


def unshortened(wanted: Wanted, engine: EngineKind) -> Fault | None:
    """Return why an embedding is refused that would come longer than it was asked for."""
    if engine != "llama" or bytes(wanted.fields.get("dimensions", b"null")) == b"null":
        return None
    return Fault(
        status=422,
        code="unsupported_by_engine",
        param="dimensions",
        message="The built-in engine gives whole vectors only. Leave out 'dimensions'.",
    )


def for_engine(
    wanted: Wanted,
    engine: EngineKind,
    model_id: str,
    *,
    cap: int | None = None,
    salt: str | None = None,
) -> bytes:
    """Return the body to send: the engine's own model name, and counts asked for with each chunk.

    ``cap`` is how long an answer may be, in place of whatever else says so; ``salt`` keeps a prefix cache apart.
    """
    never = OURS if engine != "external" else ()
    if not wanted.stream:
        never = (*never, "stream_options")
    changed = wanted.stream or cap is not None or salt is not None or wanted.model != model_id
    if not changed and not any(name in wanted.fields for name in never):
        # Nothing needs to be said otherwise than the client said it.
        return wanted.body
    fields = {name: value for name, value in wanted.fields.items() if name not in never}
    if cap is not None:
        for name in CAPS:
            fields.pop(name, None)
        fields["max_tokens"] = msgspec.Raw(b"%d" % cap)
    if salt is not None:
        fields["cache_salt"] = msgspec.Raw(_encode(salt))
    fields["model"] = msgspec.Raw(_encode(model_id))
    if not wanted.stream:
        return _encode(fields)
    asked = msgspec.json.decode(fields.get("stream_options", b"null")) or {}
    options = {**asked, "include_usage": True}
    if engine == "vllm":
        options["continuous_usage_stats"] = True
    fields["stream_options"] = msgspec.Raw(_encode(options))
    if engine == "llama":
        fields["timings_per_token"] = msgspec.Raw(b"true")
    return _encode(fields)
