"""The content blocks of Anthropic's messages, turned into the messages of a chat."""

from typing import Any

import msgspec

from inference_gateway.domain.dialects.reading import data_url, missing, one_text, unsupported


class Source(msgspec.Struct, frozen=True):
    """Where the bytes of a block are."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None


class Inner(msgspec.Struct, frozen=True):
    """A block within a block: what a tool gave back."""

    type: str
    text: str | None = None
    source: Source | None = None
    title: str | None = None


class Block(msgspec.Struct, frozen=True):
    """A block of any type."""

    type: str
    text: str | None = None
    source: Source | None = None
    title: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"{}")
    tool_use_id: str | None = None
    content: str | list[Inner] | None = None


Content = str | list[Block]
Chat = list[dict[str, Any]]


def messages_of(system: Content | None, turns: list[tuple[str, Content]]) -> Chat:
    """Return the chat that ``system`` and ``turns`` are. Raises ``Refused`` for what has no counterpart."""
    chat: Chat = []
    if system:
        chat.append({"role": "system", "content": _plain(system, "system")})
    for place, (role, content) in enumerate(turns):
        at = f"messages[{place}]"
        match role:
            case "user":
                chat += _from_user(content, f"{at}.content")
            case "assistant":
                chat.append(_from_model(content, f"{at}.content"))
            case "system":
                chat.append({"role": "system", "content": _plain(content, f"{at}.content")})
            case _:
                raise unsupported(
                    f"{at}.role", "A role is 'user', 'assistant' or 'system'; choose one."
                )
    return chat


def _plain(content: Content, at: str) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    return one_text([_part(block, f"{at}[{place}]") for place, block in enumerate(content)])


def _from_user(content: Content, at: str) -> Chat:
    """Return what a user said; what tools gave back comes first, right after the calls it answers."""
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    chat: Chat = []
    parts = []
    for place, block in enumerate(content):
        here = f"{at}[{place}]"
        if block.type == "tool_result":
            if not block.tool_use_id:
                raise missing(f"{here}.tool_use_id", "a tool's result")
            given = _given(block.content, f"{here}.content")
            chat.append({"role": "tool", "tool_call_id": block.tool_use_id, "content": given})
        else:
            parts.append(_part(block, here))
    if parts:
        chat.append({"role": "user", "content": one_text(parts)})
    return chat


def _given(content: str | list[Inner] | None, at: str) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    if not content:
        return ""
    return one_text([_part(block, f"{at}[{place}]") for place, block in enumerate(content)])


def _from_model(content: Content, at: str) -> dict[str, Any]:
    """Return what the model said, thought and called, as one message."""
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    parts, thoughts, calls = [], [], []
    for place, block in enumerate(content):
        here = f"{at}[{place}]"
        match block.type:
            case "thinking":
                thoughts.append(block.thinking or "")
            case "redacted_thinking":
                raise unsupported(
                    here,
                    "Thinking that was encrypted elsewhere cannot be read here; leave the block out.",
                )
            case "tool_use":
                if not block.id or not block.name:
                    raise missing(f"{here}.{'name' if block.id else 'id'}", "a tool's call")
                function = {"name": block.name, "arguments": bytes(block.input).decode()}
                calls.append({"id": block.id, "type": "function", "function": function})
            case _:
                parts.append(_part(block, here))
    message: dict[str, Any] = {"role": "assistant", "content": one_text(parts) if parts else None}
    if not parts and not calls:
        message["content"] = ""
    if any(thoughts):
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _part(block: Block | Inner, at: str) -> dict[str, Any]:
    match block.type:
        case "text":
            return {"type": "text", "text": block.text or ""}
        case "image":
            return {"type": "image_url", "image_url": {"url": _url(block.source, at)}}
        case "document":
            return _document(block, at)
        case other:
            raise unsupported(
                f"{at}.type", f"There are no blocks of type '{other[:40]}' here; leave them out."
            )


def _url(source: Source | None, at: str) -> str:
    match source:
        case Source(type="base64", media_type=str(kind), data=str(data)):
            return data_url(kind, data)
        case Source(type="url", url=str(url)):
            return url
        case Source(type="file"):
            raise unsupported(f"{at}.source", "Files are not stored here; send the data itself.")
        case _:
            raise missing(f"{at}.source", "a block of type 'image'")


def _document(block: Block | Inner, at: str) -> dict[str, Any]:
    match block.source:
        case Source(type="text", data=str(text)):
            return {"type": "text", "text": text}
        case Source(type="base64", media_type=str(kind), data=str(data)):
            file = {"file_data": data_url(kind, data)}
            if block.title is not None:
                file["filename"] = block.title
            return {"type": "file", "file": file}
        case None:
            raise missing(f"{at}.source", "a block of type 'document'")
        case _:
            raise unsupported(
                f"{at}.source", "Documents are not fetched or stored here; send the data itself."
            )
