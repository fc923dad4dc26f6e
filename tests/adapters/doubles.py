"""A small double of the public door, and the users' commands run against it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.house.tree import ROOT


class Door:
    """Answers what it was told to, in turn, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[tuple[str, str, Any, dict[str, str]]] = []
        double = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                double.asked.append(
                    (self.command, self.path, json.loads(raw) if raw else None, headers)
                )
                status, body = double.answers.pop(0)
                self.send_response(status)
                text = body if isinstance(body, str) else json.dumps(body)
                kind = "text/event-stream" if isinstance(body, str) else "application/json"
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = do_DELETE = do_PATCH = answer  # noqa: N815 the names that the library calls

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def opened() -> Iterator[Door]:
    """Give a door that answers; it is closed at the end."""
    made = Door()
    thread = Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def mesh(
    door: Door | None, *arguments: str | bytes, cwd: Path = ROOT, **more: str
) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MESH_")}
    told = {"MESH_URL": door.url, "MESH_API_KEY": "key"} if door else {}
    return subprocess.run(
        [sys.executable, "-P", "-m", "mesh_tools", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=cwd,
        env={**kept, **told, **more},
        check=False,
    )
