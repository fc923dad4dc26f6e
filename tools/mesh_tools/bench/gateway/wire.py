"""HTTP/1.1 from the bytes that come: as much of it as a mock upstream and its callers need, and fast."""

HEAD_BYTES_MAX = 64 * 1024
"""A head that has not ended by then is none."""


class NotHttp(Exception):
    """What came is no message, or more than one at once: nobody here sends ahead."""


class Message:
    """Takes one message after the other of a connection apart, wherever its bytes are split.

    ``head`` is lower case and begins with the first line; ``whole`` is true once the message has
    ended; ``again`` makes room for the next. A response without a length ends with its connection.
    """

    __slots__ = ("_chunked", "_held", "_last", "_left", "_request", "head", "whole")

    def __init__(self, *, request: bool = False) -> None:
        self._request = request
        self.again()

    def again(self) -> None:
        """Begin the next message."""
        self.head = b""
        self.whole = False
        self._held = b""
        self._left = -1
        self._chunked = False
        self._last = False

    @property
    def status(self) -> int:
        """The response's status; 0 before its head has come."""
        return int(self.head[9:12] or 0)

    @property
    def until_closed(self) -> bool:
        """Whether the end of the connection ends the message."""
        return bool(self.head) and not self.whole and not self._chunked and self._left < 0

    def feed(self, data: bytes) -> bytes:
        """Return what ``data`` holds of the body. Raises ``NotHttp``."""
        if self._held:
            data, self._held = self._held + data, b""
        if not self.head:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > HEAD_BYTES_MAX:
                    raise NotHttp("a head without an end")
                self._held = data
                return b""
            self._begin(data[:end].lower())
            data = data[end + 4 :]
        if self._chunked:
            return self._unchunk(data)
        if self._left >= 0:
            self._left -= len(data)
            if self._left < 0:
                raise NotHttp("more than the message's length")
            self.whole = self._left == 0
        return data

    def _begin(self, head: bytes) -> None:
        self.head = head
        at = head.find(b"\r\ncontent-length:")
        if at >= 0:
            end = head.find(b"\r\n", at + 2)
            self._left = int(head[at + 17 : end if end >= 0 else None])
        elif b"\r\ntransfer-encoding: chunked" in head:
            self._chunked = True
            self._left = 0
        elif self._request:
            self._left = 0

    def _unchunk(self, data: bytes) -> bytes:
        """Return the payload of the chunks in ``data``; ``_left`` counts a chunk with the CRLF after it."""
        payload, at, size = b"", 0, len(data)
        while at < size:
            if self._left > 2:
                part = data[at : at + self._left - 2]
                payload = payload + part if payload else part
                self._left -= len(part)
                at += len(part)
            elif self._left > 0:
                step = min(self._left, size - at)
                self._left -= step
                at += step
            else:
                end = data.find(b"\r\n", at)
                if end < 0:
                    self._held = data[at:]
                    break
                line, at = data[at:end], end + 2
                if self._last:
                    if not line:
                        self.whole = True
                        break
                else:
                    length = int(line.partition(b";")[0], 16)
                    self._last = length == 0
                    self._left = length + 2 if length else 0
        if self.whole and at < size:
            raise NotHttp("bytes after the message's end")
        return payload
