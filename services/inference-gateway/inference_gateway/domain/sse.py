"""Server-sent events as an engine writes them: bytes in, whole events and their data out."""

EVENT_BYTES_MAX = 4 * 1024**2
"""An event of an engine that never ends is cut here, as a fault of the engine."""


class EventTooLong(Exception):
    """An engine's event passed ``EVENT_BYTES_MAX``."""


class Splitter:
    """Cuts bytes into whole server-sent events, wherever the reads were cut."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._looked = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that are whole now, without the blank line. Raises ``EventTooLong``.

        What was looked through is not looked through again: a large event may come in many reads.
        """
        held = self._held
        if held:
            # A line's end may have been cut in two, and so may the two that end an event.
            data = bytes(held[self._looked :]) + data
            del held[self._looked :]
        data = data.replace(b"\r\n", b"\n")
        whole: list[bytes] = []
        if b"\n\n" in data:
            *whole, data = (bytes(held) + data).split(b"\n\n")
            held.clear()
        held += data
        if len(held) > EVENT_BYTES_MAX:
            raise EventTooLong
        self._looked = max(len(held) - 2, 0)
        return [event for event in whole if event]


def data_of(event: bytes) -> bytes | None:
    """Return the data of an event in one line; nothing where it has none.

    Between the lines of JSON there is only space, so a space may stand for the line's end.
    """
    if event.startswith(b"data:") and b"\n" not in event:
        return event[5:].strip()
    lines = [line[5:].lstrip() for line in event.split(b"\n") if line.startswith(b"data:")]
    if event.startswith(b"error:"):
        return event[6:].strip()
    return b" ".join(lines) if lines else None
