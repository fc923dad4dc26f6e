"""Server-sent events as an engine writes them: bytes in, whole events out, as they were written."""

import re

EVENT_BYTES_MAX = 4 * 1024**2
"""An event of an engine that never ends is cut here, as a fault of the engine."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What a stream may begin with; it means nothing."""

_LINE_END = rb"(?:\r\n|\n|\r(?!\n))"
_BLANK_LINE = re.compile(_LINE_END + _LINE_END)
_LINES = re.compile(rb"\r\n|\n|\r")


class EventTooLong(Exception):
    """An engine's event passed ``EVENT_BYTES_MAX``."""


class Splitter:
    """Cuts bytes into whole server-sent events, wherever the reads were cut."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that are whole now, each with its blank line. Raises ``EventTooLong``.

        Together with ``rest`` they are the bytes that came, unchanged.
        """
        held = self._held
        if not held and data.endswith(b"\n\n") and b"\r" not in data:
            # The common case: one read holds whole events.
            if data.index(b"\n\n") == len(data) - 2:
                return [data]
            return [event + b"\n\n" for event in data[:-2].split(b"\n\n")]
        # What was looked through is not looked through again: a large event may come in many reads,
        # and the four bytes that end an event may have been cut anywhere.
        looked = max(len(held) - 3, 0)
        held += data
        whole: list[bytes] = []
        begin = 0
        while (end := _BLANK_LINE.search(held, looked)) is not None:
            whole.append(bytes(held[begin : end.end()]))
            begin = looked = end.end()
        if begin:
            del held[:begin]
        if len(held) > EVENT_BYTES_MAX:
            raise EventTooLong
        return whole

    @property
    def rest(self) -> bytes:
        """What came after the last whole event."""
        return bytes(self._held)


def data_of(event: bytes) -> bytes | None:
    """Return the data of an event in one line; nothing where it has none.

    Between the lines of JSON there is only space, so a space may stand for the line's end.
    """
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and b"\r" not in event:
        return event[6:].strip()
    text = event.strip(b"\r\n").removeprefix(BYTE_ORDER_MARK)
    if text.startswith(b"data:") and b"\n" not in text and b"\r" not in text:
        return text[5:].strip()
    lines = _LINES.split(text)
    data = [line[5:].strip() for line in lines if line.startswith(b"data:")]
    if not data and text.startswith(b"error:"):
        return text[6:].strip()
    return b" ".join(data) if data else None


def with_data(event: bytes, data: bytes) -> bytes:
    """Return ``event`` with other data: its other lines stay as they were written."""
    if event.startswith(b"data:") and event.find(b"\n") == len(event) - 2:
        return b"data: " + data + b"\n\n"
    others = [
        line
        for line in _LINES.split(event.strip(b"\r\n").removeprefix(BYTE_ORDER_MARK))
        if line and not line.startswith(b"data:")
    ]
    return b"\n".join([*others, b"data: " + data, b"", b""])
