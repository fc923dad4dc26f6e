"""``POST /v1/responses`` streamed: chunks of a chat completion turned into semantic events.

Items open in the order in which the engine begins them. Thoughts and words are one after the other;
tool calls stay open side by side until the engine says why it ended, since their pieces may alternate.
"""

from typing import Any

from inference_gateway.domain.dialects.chat import (
    Budget,
    Calls,
    Completion,
    ToolCall,
    Usage,
    call_id,
    completions,
    event,
)
from inference_gateway.domain.dialects.responses_out import (
    Frame,
    Json,
    function_call,
    item_id,
    likelihoods_of,
    message,
    reasoning,
    reasoning_part,
    refusal_part,
    status_of,
    text_part,
)


class _Part:
    """A part of an item that is being said."""

    def __init__(self, kind: str, place: int) -> None:
        self.kind = kind
        self.place = place
        self.texts: list[str] = []
        self.likelihoods: list[Json] = []

    def whole(self) -> Json:
        text = "".join(self.texts)
        if self.kind == "output_text":
            return text_part(text, self.likelihoods)
        return refusal_part(text) if self.kind == "refusal" else reasoning_part(text)


class _Item:
    """An output item as it grows."""

    def __init__(self, kind: str, request_id: str, place: int) -> None:
        self.kind = kind
        self.place = place
        self.id = item_id(kind, request_id, place)
        self.parts: list[_Part] = []
        self.call = ""
        self.name: str | None = None
        self.arguments: list[str] = []
        self.done = False

    def whole(self, status: str) -> Json:
        if self.kind == "function_call":
            return function_call(self.id, self.call, self.name or "", "".join(self.arguments), status)
        if self.kind == "message":
            return message(self.id, [part.whole() for part in self.parts], status)
        return reasoning(self.id, "".join(self.parts[0].texts) if self.parts else None, status)


class Speaker:
    """Says one response, event by event."""

    def __init__(self, asked: bytes, name: str, request_id: str, now_s: int) -> None:
        self._frame = Frame(asked, name, request_id, now_s)
        self._request_id = request_id
        self._number = 0
        self._out: list[bytes] = []
        self._items: list[_Item] = []
        self._open: _Item | None = None
        self._calls = Calls()
        self._by_call: dict[int, _Item] = {}
        self._budget = Budget()
        self._unsaid: list[Json] = []
        self._usage: Usage | None = None
        self._finish_reason: str | None = None
        self._begun = False

    def begin(self) -> bytes:
        """Return the events before the first word."""
        if not self._begun:
            self._begun = True
            self._say("response.created", response=self._frame.response("in_progress", []))
            self._say("response.in_progress", response=self._frame.response("in_progress", []))
        return self._taken()

    def part(self, chunks: list[bytes]) -> bytes:
        """Return the events that these chunks are.

        Raises one of ``UNREADABLE`` where a chunk is of another shape, and ``EventTooLong``.
        """
        read = [completions.decode(chunk) for chunk in chunks]
        for chunk in read:
            self._hear(chunk)
        return self._taken()

    def end(self) -> bytes:
        """Return the events that end a response; ``usage`` is in the last."""
        self._close_all()
        status = status_of(self._finish_reason)
        response = self._frame.response(
            status, self._output(), usage=self._usage, finish_reason=self._finish_reason
        )
        self._say(f"response.{status}", response=response)
        return self._taken()

    def broken(self, code: str, message: str) -> bytes:
        """Return the events that end a response which cannot go on; what was said stands in the last."""
        begun = self.begin()
        self._say("error", code=code, message=message, param=None)
        error = {"code": "server_error", "message": message}
        response = self._frame.response("failed", self._output(), usage=self._usage, error=error)
        self._say("response.failed", response=response)
        return begun + self._taken()

    def _hear(self, chunk: Completion) -> None:
        self._usage = chunk.usage or self._usage
        choice = chunk.first
        if choice is None or self._finish_reason is not None:
            return
        said = choice.delta
        if said.thoughts:
            self._think(said.thoughts)
        if said.content is not None and not said.thoughts:
            # Half a character is no text yet, but it is a token.
            self._unsaid += self._kept(likelihoods_of(choice))
        if said.content:
            self._add("output_text", said.content)
        if said.refusal:
            self._add("refusal", said.refusal)
        for piece in said.tool_calls or []:
            self._call(piece)
        if choice.finish_reason is not None:
            self._finish_reason = choice.finish_reason
            self._close_all()

    def _think(self, text: str) -> None:
        item = self._current("reasoning")
        part = self._part_of(item, "reasoning_text")
        self._keep(part.texts, text)
        self._say_of(item, "response.reasoning_text.delta", part, delta=text)

    def _add(self, kind: str, text: str) -> None:
        item = self._current("message")
        part = self._part_of(item, kind)
        self._keep(part.texts, text)
        if kind == "refusal":
            self._say_of(item, "response.refusal.delta", part, delta=text)
            return
        likelihoods, self._unsaid = self._unsaid, []
        part.likelihoods += likelihoods
        self._say_of(item, "response.output_text.delta", part, delta=text, logprobs=likelihoods)

    def _call(self, piece: ToolCall) -> None:
        if self._open is not None:
            self._close(self._open, "completed")
        place = self._calls.place_of(piece)
        item = self._by_call.get(place)
        if item is None:
            item = self._by_call[place] = self._new("function_call")
            item.call = call_id(piece.id, self._request_id, place)
            item.name = piece.function.name
            self._say(
                "response.output_item.added", output_index=item.place, item=item.whole("in_progress")
            )
        arguments = piece.function.arguments
        if arguments:
            self._keep(item.arguments, arguments)
            self._say_of(item, "response.function_call_arguments.delta", None, delta=arguments)

    def _current(self, kind: str) -> _Item:
        """Return the open item of a kind; another one that is open is closed first."""
        if self._open is not None:
            if self._open.kind == kind:
                return self._open
            self._close(self._open, "completed")
        item = self._open = self._new(kind)
        self._say("response.output_item.added", output_index=item.place, item=item.whole("in_progress"))
        return item

    def _new(self, kind: str) -> _Item:
        item = _Item(kind, self._request_id, len(self._items))
        self._items.append(item)
        return item

    def _part_of(self, item: _Item, kind: str) -> _Part:
        if item.parts and item.parts[-1].kind == kind:
            return item.parts[-1]
        if item.parts:
            self._close_part(item)
        part = _Part(kind, len(item.parts))
        item.parts.append(part)
        self._say_of(item, "response.content_part.added", part, part=part.whole())
        return part

    def _close_part(self, item: _Item) -> None:
        part = item.parts[-1]
        if part.kind == "output_text":
            part.likelihoods += self._unsaid
            self._unsaid = []
        said = part.whole()
        if part.kind == "refusal":
            self._say_of(item, "response.refusal.done", part, refusal=said["refusal"])
        elif part.kind == "output_text":
            more = {"text": said["text"], "logprobs": said["logprobs"]}
            self._say_of(item, "response.output_text.done", part, **more)
        else:
            self._say_of(item, "response.reasoning_text.done", part, text=said["text"])
        self._say_of(item, "response.content_part.done", part, part=said)

    def _close(self, item: _Item, status: str) -> None:
        item.done = True
        if item is self._open:
            self._open = None
        if item.kind == "function_call":
            arguments = "".join(item.arguments)
            self._say_of(item, "response.function_call_arguments.done", None, arguments=arguments)
        else:
            self._close_part(item)
        self._say("response.output_item.done", output_index=item.place, item=item.whole(status))

    def _close_all(self) -> None:
        for item in self._items:
            if not item.done:
                last = item is self._items[-1]
                self._close(item, status_of(self._finish_reason) if last else "completed")

    def _output(self) -> list[Json]:
        ended = status_of(self._finish_reason) if self._finish_reason else "incomplete"
        last = len(self._items) - 1
        return [
            item.whole(("completed" if item.done else "incomplete") if item.place != last else ended)
            for item in self._items
        ]

    def _kept(self, likelihoods: list[Json]) -> list[Json]:
        self._budget.keep_likelihoods(likelihoods)
        return likelihoods

    def _keep(self, held: list[str], text: str) -> None:
        self._budget.keep(text)
        held.append(text)

    def _say_of(self, item: _Item, name: str, within: _Part | None, /, **said: Any) -> None:
        where: Json = {"item_id": item.id, "output_index": item.place}
        if within is not None:
            where["content_index"] = within.place
        self._say(name, **where, **said)

    def _say(self, name: str, /, **said: Any) -> None:
        self._out.append(event(name, {"sequence_number": self._number, **said}))
        self._number += 1

    def _taken(self) -> bytes:
        taken, self._out = b"".join(self._out), []
        return taken
