"""What is measured: a gateway that runs on its core, or the reason why there is none."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from mesh_tools.bench.gateway import words
from mesh_tools.bench.gateway.asked import Wish
from mesh_tools.bench.gateway.cores import started_on
from mesh_tools.embedded import tied

READY_WITHIN_S = 180.0
"""LiteLLM reads half a gigabyte at its first start."""
STOP_WITHIN_S = 5.0
ASK_WITHIN_S = 10.0
SAID_AT_MOST = 300
CHAT = "/v1/chat/completions"
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway to be asked: where, in which words, and the process that answers (0 where that is the mock)."""

    name: str
    version: str
    url: str
    pid: int = 0
    path: str = CHAT
    model: str = words.MODEL
    headers: dict[str, str] = {}

    def wish(self, **more: object) -> Wish:
        """Return a measurement of it."""
        address = urlsplit(self.url)
        assert address.hostname is not None
        assert address.port is not None
        wish = Wish(
            host=address.hostname,
            port=address.port,
            path=self.path,
            model=self.model,
            headers=self.headers,
            pid=self.pid,
        )
        return msgspec.structs.replace(wish, **more)


class NotThere(Exception):
    """A gateway cannot be measured; the message says why."""


def free_port() -> int:
    """Return a port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: list[str], log: Path, core: int, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the block, with all it starts, on one core; no proxy between."""
    base = {name: value for name, value in os.environ.items() if name.lower() not in PROXIES}
    with log.open("wb") as said, started_on(core):
        process = subprocess.Popen(
            tied.command(signal.SIGTERM, *command),
            env={**base, **(environment or {})},
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_WITHIN_S)
    process.wait()


def wait_answering(target: Target, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once it answers a completion. Raises ``NotThere`` with what it said last."""
    wish, until = target.wish(), time.monotonic() + READY_WITHIN_S
    while True:
        try:
            status, said = ask(wish)
        except (OSError, HTTPException) as fault:
            status, said = 0, f"{type(fault).__name__}: {fault}"
        if status == 200:
            return
        if process.poll() is not None:
            raise NotThere(f"it ended with {process.returncode}: {last_words(log)}")
        if time.monotonic() > until:
            raise NotThere(f"no completion within {READY_WITHIN_S:.0f} s: {status} {said}")
        time.sleep(0.2)


def ask(wish: Wish) -> tuple[int, str]:
    """Return the status of one completion, and the beginning of what was said."""
    connection = HTTPConnection(wish.host, wish.port, timeout=ASK_WITHIN_S)
    try:
        body = words.body(wish.model, wish.size, stream=wish.stream)
        sent = {"content-type": "application/json", **wish.headers}
        connection.request("POST", wish.path, body, sent)
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")[:SAID_AT_MOST]
    finally:
        connection.close()


def last_words(log: Path) -> str:
    """Return the last line of a log."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:SAID_AT_MOST] if lines else "nothing"
