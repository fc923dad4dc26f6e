"""A small HTTP client for the demo: JSON, streams of server-sent events, and what came when."""

import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 30.0


class Answered:
    """An answer: status, headers (lower case), and the body as JSON where it is JSON."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        raw = response.read()
        kind = self.headers.get("content-type", "")
        self.body: Any = json.loads(raw) if "json" in kind and raw else raw.decode(errors="replace")


class Client:
    """One caller: where the gateway is, and with which key."""

    def __init__(self, url: str, key: str) -> None:
        self._address = urlsplit(url)
        self._key = key

    def open(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[HTTPConnection, HTTPResponse]:
        """Return the connection (to be closed) and the response, not yet read."""
        assert self._address.hostname is not None
        connection = HTTPConnection(self._address.hostname, self._address.port, timeout=TIMEOUT_S)
        sent = {"authorization": f"Bearer {self._key}", "accept": "*/*", **(headers or {})}
        raw = None
        if body is not None:
            raw = json.dumps(body).encode()
            sent["content-type"] = "application/json"
        connection.request(method, path, raw, sent)
        return connection, connection.getresponse()

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answered:
        """Return the whole answer."""
        connection, response = self.open(method, path, body, headers)
        try:
            return Answered(response)
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """Return what a path holds. Raises ``AssertionError`` with the problem where it does not."""
        answered = self.call("GET", path)
        assert answered.status == 200, f"GET {path}: {answered.status} {answered.body}"
        return answered.body

    def post(self, path: str, body: Any = None) -> Answered:
        """Return the answer to a POST. Raises ``AssertionError`` with the problem where it is refused."""
        answered = self.call("POST", path, body)
        assert answered.status < 300, f"POST {path}: {answered.status} {answered.body}"
        return answered


class Event:
    """One server-sent event."""

    def __init__(self, cursor: str, data: str) -> None:
        self.cursor = cursor
        self.data = data


def events(response: HTTPResponse, *, seconds: float) -> Iterator[Event]:
    """Yield server-sent events until the stream ends or ``seconds`` have passed."""
    until = time.monotonic() + seconds
    cursor, lines = "", list[str]()
    while time.monotonic() < until:
        raw = response.readline()
        if not raw:
            return
        line = raw.decode().rstrip("\r\n")
        if not line:
            if lines:
                yield Event(cursor, "\n".join(lines))
            lines = []
        elif line.startswith("id:"):
            cursor = line[3:].strip()
        elif line.startswith("data:"):
            lines.append(line[5:].strip())
