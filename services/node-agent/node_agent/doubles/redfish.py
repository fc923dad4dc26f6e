"""A double of a BMC: no hardware stands behind it, and what it shows proves nothing of any.

It has what ``sushy-emulator --fake`` lacks (accounts, sessions, a firmware inventory, drives with a secure
erase and its task, a reset of the BMC, a console), and faults that are put in by path. With ``behind`` (the
address of an emulator) power, boot device and media are that emulator's; else they are its own.

``python -m node_agent.doubles.redfish USER PASSWORD`` serves one on loopback until it is interrupted.
"""

import base64
import contextlib
import json
import secrets
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from node_agent.doubles.redfish_pages import ROOT, Fault, Json, State, machine, own_parts, page

FORWARD_WITHIN_S = 30.0

Answer = tuple[int, Json | None, dict[str, str]]
DONE: Answer = (204, None, {})
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Double:
    """One BMC that answers on loopback until it is closed. ``on_boot`` hears what each start boots."""

    def __init__(
        self,
        state: State,
        behind: str | None = None,
        on_boot: Callable[[str | None], None] = lambda _image: None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.state = state
        self.on_boot = on_boot
        self._behind = behind
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}{ROOT}/Systems/{state.system}"

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def away(self) -> bool:
        """Whether it starts anew just now."""
        return time.monotonic() < self.state.away_until

    def answer(self, method: str, path: str, body: Json, headers: Any) -> Answer:
        """Return what is said to one request: status, content, headers."""
        fault = self._fault(f"{method} {path}")
        if fault is not None and fault.kind == "hangs":
            time.sleep(fault.seconds)
        if fault is not None and fault.kind in {"busy", "refused", "denied"}:
            return _error({"busy": 503, "refused": 401, "denied": 400}[fault.kind], fault.kind)
        below = path.removeprefix(ROOT).rstrip("/")
        if (method, below) == ("POST", "/SessionService/Sessions"):
            return self._login(body)
        if below and not self._let_in(headers):
            return _error(401, "no login")
        self.state.asked.append(f"{method} {path}")
        if fault is not None and fault.kind == "ignored":
            return DONE
        if method == "GET":
            return self._read(below)
        with self._lock:
            return self._own(method, below, body) or self._machine(method, path, body)

    def dropped(self, request: str) -> bool:
        """Tell whether a request, which was done, is not answered."""
        return self._fault(request, dropped=True) is not None

    def _fault(self, request: str, *, dropped: bool = False) -> Fault | None:
        for fault in self.state.faults:
            if (fault.kind == "dropped") is not dropped:
                continue
            if fault.at in request and (fault.times is None or fault.times > 0):
                fault.times = None if fault.times is None else fault.times - 1
                return fault
        return None

    def _let_in(self, headers: Any) -> bool:
        if headers.get("X-Auth-Token") in self.state.sessions:
            return True
        kind, _, told = (headers.get("Authorization") or "").partition(" ")
        user, _, password = base64.b64decode(told or "").decode().partition(":")
        return kind == "Basic" and bool(user) and self.state.users.get(user) == password

    def _login(self, body: Json) -> Answer:
        if self.state.users.get(body.get("UserName", "")) != body.get("Password"):
            self.state.wrong_logins += 1
            return _error(401, "wrong login")
        token = secrets.token_hex(8)
        self.state.sessions.add(token)
        where = {"X-Auth-Token": token, "Location": f"{ROOT}/SessionService/Sessions/{token}"}
        return 201, {"Id": token, "Name": "session"}, where

    def _read(self, below: str) -> Answer:
        found = page(self.state, below)
        if found is None and self._behind:
            status, found, more = self._forward("GET", f"{ROOT}{below}", {})
            if below == f"/Systems/{self.state.system}" and found:
                found = own_parts(self.state, found)
            return status, found, more
        if found is None and (found := machine(self.state, below)) and "PowerState" in found:
            found = own_parts(self.state, found)
        if found is None:
            return _error(404, below)
        running = found.get("TaskState") == "Running"
        return 202 if running else 200, found | {"@odata.id": f"{ROOT}{below}"}, {}

    def _own(self, method: str, below: str, body: Json) -> Answer | None:
        state = self.state
        drive = below.rpartition("/Drives/")[2].partition("/")[0]
        if below.endswith("/Drive.SecureErase"):
            assert body["SanitizationType"] == "BlockErase", body
            task = f"{len(state.tasks) + 1}-{drive}"
            state.tasks[task] = (time.monotonic() + state.task_s, state.drives[drive])
            return 202, {}, {"Location": f"{ROOT}/TaskService/Tasks/{task}"}
        if below.startswith("/SessionService/Sessions/"):
            state.sessions.discard(below.rpartition("/")[2])
            return DONE
        if (method, below) == ("PATCH", "/AccountService/Accounts/1"):
            state.users[next(iter(state.users))] = body["Password"]
            state.sessions.clear()
            return DONE
        if below.endswith("/Manager.Reset"):
            state.resets += 1
            state.sessions.clear()
            state.away_until = time.monotonic() + state.away_s
            return DONE
        return None

    def _machine(self, method: str, path: str, body: Json) -> Answer:
        state = self.state
        answer = self._forward(method, path, body) if self._behind else DONE
        if answer[0] >= 400:
            return answer
        if path.endswith("InsertMedia"):
            state.media = body["Image"]
        elif path.endswith("EjectMedia"):
            state.media = None
        elif path.endswith("ComputerSystem.Reset"):
            state.power = "On" if body["ResetType"] == "On" else "Off"
            if state.power == "On":
                state.booted.append(state.media if state.boot == "Cd" else None)
                self.on_boot(state.booted[-1])
        elif method == "PATCH" and "Boot" in body:
            state.boot = body["Boot"]["BootSourceOverrideTarget"]
        else:
            return _error(404, path)
        return answer

    def _forward(self, method: str, path: str, body: Json) -> Answer:
        data = json.dumps(body).encode() if method != "GET" else None
        kind = {"Content-Type": "application/json"}
        asked = urllib.request.Request(  # noqa: S310 - where we were told
            f"{self._behind}{path}", data, kind, method=method
        )
        try:
            with NO_PROXY.open(asked, timeout=FORWARD_WITHIN_S) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None, {}
        except urllib.error.HTTPError as fault:
            with fault:
                text = fault.read()
            with contextlib.suppress(ValueError):
                return fault.code, json.loads(text), {}
            return _error(fault.code, text.decode(errors="replace"))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of callers that went away."""


def _error(status: int, said: str) -> Answer:
    return status, {"error": {"code": "Base.1.0.GeneralError", "message": said}}, {}


def _handler(double: Double) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(length)
            if double.away:
                self.connection.close()
                return
            body = json.loads(text) if text else {}
            status, told, more = double.answer(self.command, self.path, body or {}, self.headers)
            if double.dropped(f"{self.command} {self.path}"):
                self.connection.close()
                return
            content = b"" if told is None else json.dumps(told).encode()
            self.send_response(status)
            for name, value in (more | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - http.server's names

        def log_message(self, *_said: Any) -> None:
            """Log nothing."""

    return Handler


def main(user: str, password: str) -> None:
    """Serve one double until it is interrupted."""
    double = Double(State(system=str(uuid.uuid4()), users={user: password}))
    sys.stdout.write(f"{double.url}\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:3])
