"""A request's body: read once, checked, and turned into what the engine is sent."""

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
    messages: list[dict[str, msgspec.Raw]] = []


class _Complete(_Common, frozen=True):
    prompt: str | list[Any] = ""


class _Embed(_Common, frozen=True):
    input: str | list[Any] = ""


_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    CHAT.path: msgspec.json.Decoder(_Chat),
    COMPLETE.path: msgspec.json.Decoder(_Complete),
    EMBED.path: msgspec.json.Decoder(_Embed),
}
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


def read(raw: bytes, operation: Operation) -> Wanted | Fault:
    """Return what the client wants, or 400 (not JSON) or 422 (a field is wrong) naming the field."""
    try:
        body = _DECODERS[operation.path].decode(raw)
        fields = _FIELDS.decode(raw)
    except msgspec.ValidationError as fault:
        return wrong_field(str(fault))
    except UNREADABLE:
        return invalid_json()
    if operation.needs not in fields or not getattr(body, operation.needs):
        return Fault(
            status=422,
            code="missing_field",
            param=operation.needs,
            message=f"The field '{operation.needs}' is missing or empty; {operation.path} cannot do without it.",
        )
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
    )


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


def for_engine(wanted: Wanted, engine: EngineKind, model_id: str) -> bytes:
    """Return the body to send: the engine's own model name, and counts asked for with each chunk."""
    fields = dict(wanted.fields)
    fields["model"] = msgspec.Raw(_encode(model_id))
    if engine != "external":
        for name in OURS:
            fields.pop(name, None)
    if not wanted.stream:
        fields.pop("stream_options", None)
        return _encode(fields)
    asked = msgspec.json.decode(fields.get("stream_options", b"null")) or {}
    options = {**asked, "include_usage": True}
    if engine == "vllm":
        options["continuous_usage_stats"] = True
    fields["stream_options"] = msgspec.Raw(_encode(options))
    if engine == "llama":
        fields["timings_per_token"] = msgspec.Raw(b"true")
    return _encode(fields)
