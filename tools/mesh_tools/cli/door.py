"""Calls the mesh's HTTP API; a refusal becomes one line that says what to do."""

import json
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from uuid import uuid4

TIMEOUT_S = 30.0
TRY_FOR_S = 8.0
"""How long what cannot be asked now is asked again: a service that was killed is back, or replaced, within seconds."""
PASSING = {"unavailable", "deadline_exceeded"}
"""Codes of refusals after which the very same may be asked again."""
PAGES_MAX = 100
EVENT_SILENCE_MAX_S = 60.0
"""The gateway sends a comment every 10 s: longer silence means that it is gone."""


class Refused(Exception):
    """The mesh said no, or nobody answered.

    ``again_s`` is set where waiting may help, and ``passing`` where the very same may be asked again then.
    """

    def __init__(self, text: str, *, again_s: float | None = None, passing: bool = False) -> None:
        super().__init__(text)
        self.again_s, self.passing = again_s, passing


class Door:
    """One caller at a mesh's public door. Raises ``Refused`` for an address or a key that cannot be one."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self._key = key
        try:
            self._address = urlsplit(url)
            self._port = self._address.port
        except ValueError as fault:
            raise Refused(f"MESH_URL is no address: {url} ({fault})") from fault
        if self._address.scheme not in {"http", "https"} or not self._address.hostname:
            raise Refused(f"MESH_URL is no address like http://127.0.0.1:8080: {url}")
        if not (key.isascii() and key.isprintable()):
            raise Refused("the key in MESH_API_KEY or MESH_ADMIN_KEY holds what no key holds")

    @property
    def opens_one_project(self) -> bool:
        """Whether the key says that it is a project's: what it makes is that project's, if nothing else is said."""
        return self._key.startswith("mesh_project_")

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Any:
        """Return the answer's JSON; what cannot be asked now is asked again for ``TRY_FOR_S``. Raises ``Refused``."""
        sent = dict(headers or {})
        if method != "GET":
            sent["idempotency-key"] = str(uuid4())
        until, told = time.monotonic() + TRY_FOR_S, False
        while True:
            try:
                return self._called(method, path, body, sent)
            except Refused as refusal:
                wait_s = refusal.again_s or 1.0
                if not refusal.passing or time.monotonic() + wait_s > until:
                    raise
                if not told:
                    print(f"mesh: {refusal}; asking again ...", file=sys.stderr)
                told = True
                time.sleep(wait_s)

    def _called(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        connection, response = self.open(method, path, body, headers)
        try:
            raw = response.read()
        except (OSError, HTTPException) as fault:
            raise Refused(f"{self.url} stopped answering: {fault}") from fault
        finally:
            connection.close()
        try:
            return json.loads(raw) if raw.strip() else None
        except ValueError as fault:
            raise Refused(f"{self.url} does not answer as a mesh does: set MESH_URL") from fault

    def open(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[HTTPConnection, HTTPResponse]:
        """Return the connection (to be closed) and a response that is no refusal. Raises ``Refused``."""
        kind = HTTPSConnection if self._address.scheme == "https" else HTTPConnection
        connection = kind(self._address.hostname or "", self._port, timeout=TIMEOUT_S)
        sent = {"authorization": f"Bearer {self._key}", "accept": "application/json", **(headers or {})}
        if method != "GET":
            sent.setdefault("idempotency-key", str(uuid4()))
        raw = None
        if body is not None:
            raw, sent["content-type"] = json.dumps(body).encode(), "application/json"
        try:
            connection.request(method, f"{self._address.path.rstrip('/')}{path}", raw, sent)
            response = connection.getresponse()
        except (OSError, HTTPException) as fault:
            connection.close()
            raise Refused(
                f"no mesh answers at {self.url} ({fault}): start one with `./mesh up`, or set MESH_URL"
            ) from fault
        if response.status >= 400:
            refusal = _refusal(response)
            connection.close()
            raise refusal
        return connection, response

    def patiently(self, path: str, wait_s: float) -> Any:
        """Return what ``path`` holds, waiting while the mesh says that it is not there yet."""
        until = time.monotonic() + wait_s
        while True:
            try:
                return self.call("GET", path)
            except Refused as refusal:
                if refusal.again_s is None or time.monotonic() > until:
                    raise
                time.sleep(min(refusal.again_s, 0.5))

    def items(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Return all pages of a list."""
        found: list[dict[str, Any]] = []
        asked = {name: value for name, value in query.items() if value is not None}
        for _ in range(PAGES_MAX):
            page = self.call("GET", with_query(path, asked))
            found += page["items"]
            if not page.get("next"):
                break
            asked["cursor"] = page["next"]
        return found

    def events(self, path: str, headers: dict[str, str]) -> Iterator[tuple[str, str]]:
        """Yield (cursor, data) of server-sent events; ends by ``Refused``, which says where to go on."""
        connection, response = self.open(
            "GET", path, headers={"accept": "text/event-stream", **headers}
        )
        if connection.sock is not None:
            connection.sock.settimeout(EVENT_SILENCE_MAX_S)
        cursor, lines = "", []
        try:
            while raw := response.readline():
                line = raw.decode().rstrip("\r\n")
                if line.startswith("id:"):
                    cursor = line[3:].strip()
                elif line.startswith("data:"):
                    lines.append(line[5:].strip())
                elif not line and lines:
                    yield cursor, "\n".join(lines)
                    lines = []
        except (OSError, HTTPException) as fault:
            raise Refused(f"the event stream broke ({fault}); {_on(cursor)}") from fault
        finally:
            connection.close()
        raise Refused(f"the event stream ended; {_on(cursor)}")


def with_query(path: str, query: dict[str, Any]) -> str:
    """Return a path with its query."""
    return f"{path}?{urlencode(query)}" if query else path


def part(text: str) -> str:
    """Return a name as one part of a path. Raises ``Refused`` where there is none."""
    if not text:
        raise Refused("a name or an id is empty: say which one is meant")
    return quote(text, safe="")


def _on(cursor: str) -> str:
    return f"go on with --after {cursor}" if cursor else "begin it again"


def _refusal(response: HTTPResponse) -> Refused:
    raw = response.read()
    try:
        told = json.loads(raw)
    except ValueError:
        told = {}
    told = told.get("error", told) if isinstance(told, dict) else {}
    if not isinstance(told, dict):
        told = {"detail": str(told)}
    said = told.get("detail") or told.get("message") or raw.decode(errors="replace")[:200]
    code = told.get("code") or response.reason
    reasons = "".join(
        f"; {one.get('detail', '')}" for one in told.get("reasons") or [] if isinstance(one, dict)
    )
    after = told.get("retry_after_s") or response.getheader("retry-after")
    waits = response.status in {409, 503} and str(code).endswith("_pending")
    again = float(after) if after and str(after).isdigit() else (0.5 if waits else None)
    text = f"{said}{reasons} ({response.status} {code})"
    return Refused(text, again_s=again, passing=code in PASSING)
