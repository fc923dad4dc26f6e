"""The items of a response's ``input``, turned into the messages of a chat."""

from typing import Any

import msgspec

from inference_gateway.domain.dialects.reading import missing, one_text, unsupported

ROLES = ("user", "assistant", "system", "developer")


class Part(msgspec.Struct, frozen=True):
    """A part of a message, of any type."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    input_audio: msgspec.Raw = msgspec.Raw(b"null")
    filename: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None


class _Thought(msgspec.Struct, frozen=True):
    text: str = ""


class Item(msgspec.Struct, frozen=True):
    """An item of ``input``, of any type; one without a type is a message."""

    type: str | None = None
    role: str | None = None
    content: str | list[Part] | None = None
    summary: list[_Thought] | None = None
    encrypted_content: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None


class _Chat:
    """The messages so far. What one turn of the model left as several items is one message."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._thoughts: list[str] = []
        self._turn: dict[str, Any] | None = None

    def add(self, message: dict[str, Any]) -> None:
        """Add a message that is not the model's."""
        self.end_turn()
        self.messages.append(message)

    def think(self, text: str) -> None:
        """Keep a thought for what the model said after it."""
        if self._turn is not None and "tool_calls" in self._turn:
            # The answers to the calls must follow this very message.
            self._turn["reasoning_content"] = self._turn.get("reasoning_content", "") + text
            return
        self.end_turn(keep_thoughts=True)
        self._thoughts.append(text)

    def say(self, content: Any) -> None:
        """Add words of the model."""
        if self._turn is None or self._turn["content"] is not None:
            self.end_turn(keep_thoughts=True)
            self._begin()
        assert self._turn is not None
        self._turn["content"] = content

    def call(self, call: dict[str, Any]) -> None:
        """Add a tool call of the model."""
        if self._turn is None:
            self._begin()
        assert self._turn is not None
        self._turn.setdefault("tool_calls", []).append(call)

    def end_turn(self, *, keep_thoughts: bool = False) -> None:
        """End the model's turn; a thought that nothing followed stays a message of its own."""
        if self._thoughts and not keep_thoughts:
            self._begin()
            assert self._turn is not None
            self._turn["content"] = ""
        self._turn = None

    def _begin(self) -> None:
        self._turn = {"role": "assistant", "content": None}
        if self._thoughts:
            self._turn["reasoning_content"] = "".join(self._thoughts)
            self._thoughts = []
        self.messages.append(self._turn)


def messages_of(items: str | list[Item], instructions: str | None) -> list[dict[str, Any]]:
    """Return the chat that ``input`` is. Raises ``Refused`` for an item that has no counterpart."""
    chat = _Chat()
    if instructions:
        chat.add({"role": "system", "content": instructions})
    if isinstance(items, str):
        chat.add({"role": "user", "content": items})
        return chat.messages
    for place, item in enumerate(items):
        _add(chat, item, f"input[{place}]")
    chat.end_turn()
    return chat.messages


def _add(chat: _Chat, item: Item, at: str) -> None:
    match item.type:
        case None | "message" if item.role is not None or item.type:
            _add_message(chat, item, at)
        case "reasoning":
            _add_reasoning(chat, item, at)
        case "function_call":
            _needs(at, call_id=item.call_id, name=item.name)
            function = {"name": item.name, "arguments": item.arguments or "{}"}
            chat.call({"id": item.call_id, "type": "function", "function": function})
        case "function_call_output":
            _needs(at, call_id=item.call_id)
            content = _content(item.output or "", f"{at}.output")
            chat.add({"role": "tool", "tool_call_id": item.call_id, "content": content})
        case None | "item_reference":
            raise unsupported(f"{at}.type", "Items are not stored here; send the item itself.")
        case other:
            raise unsupported(
                f"{at}.type",
                f"Items of type '{other[:40]}' belong to tools that do not run here; leave them out.",
            )


def _add_message(chat: _Chat, item: Item, at: str) -> None:
    if item.role not in ROLES:
        raise unsupported(f"{at}.role", f"A role is one of {', '.join(ROLES)}; choose one.")
    content = _content(item.content or "", f"{at}.content")
    if item.role == "assistant":
        chat.say(content)
    else:
        chat.add({"role": item.role, "content": content})


def _add_reasoning(chat: _Chat, item: Item, at: str) -> None:
    plain = "".join(part.text or "" for part in item.content or [] if isinstance(part, Part))
    plain = plain or "".join(thought.text for thought in item.summary or [])
    if plain:
        chat.think(plain)
    elif item.encrypted_content is not None:
        raise unsupported(
            f"{at}.encrypted_content",
            "Reasoning that was encrypted elsewhere cannot be read here; leave the item out.",
        )


def _content(content: str | list[Part], at: str) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    return one_text([_part(part, f"{at}[{place}]") for place, part in enumerate(content)])


def _part(part: Part, at: str) -> dict[str, Any]:
    match part.type:
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": part.text or ""}
        case "refusal":
            # To the model its refusal is what it said; engines know no such part.
            return {"type": "text", "text": part.refusal or ""}
        case "input_image":
            _refuse_stored(part, at)
            _needs(at, image_url=part.image_url)
            image = {"url": part.image_url}
            if part.detail is not None:
                image["detail"] = part.detail
            return {"type": "image_url", "image_url": image}
        case "input_audio":
            return {"type": "input_audio", "input_audio": part.input_audio}
        case "input_file":
            _refuse_stored(part, at)
            if part.file_url is not None:
                raise unsupported(f"{at}.file_url", "Files are not fetched here; send 'file_data'.")
            _needs(at, file_data=part.file_data)
            file = {"file_data": part.file_data}
            if part.filename is not None:
                file["filename"] = part.filename
            return {"type": "file", "file": file}
        case other:
            raise unsupported(
                f"{at}.type", f"There are no parts of type '{other[:40]}' here; leave them out."
            )


def _refuse_stored(part: Part, at: str) -> None:
    if part.file_id is not None:
        raise unsupported(f"{at}.file_id", "Files are not stored here; send the data itself.")


def _needs(at: str, **values: str | None) -> None:
    for name, value in values.items():
        if not value:
            raise missing(f"{at}.{name}", "an item of /v1/responses")
