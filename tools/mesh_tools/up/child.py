"""One process of the mesh: started, watched, started again with backoff, its log bounded."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
STEADY_AFTER_S = 20.0
"""A process that lived this long begins again at the first backoff."""
LOG_BYTES_MAX = 8 * 1024**2
LOG_KEPT_BYTES = 1024**2
LOG_CHECK_S = 5.0
WATCH_S = 0.05


class Runs(Protocol):
    """What can be started: gives its process."""

    process: subprocess.Popen[bytes] | None

    def spawn(self, log: Path) -> int:
        """Start it, with its words going to ``log``; return the process id."""

    def stop(self) -> None:
        """Stop it within a bound."""


class Child:
    """A supervised process. ``say`` tells people; ``changed`` is called when its pid changed."""

    def __init__(
        self, name: str, service: str, runs: Runs, log: Path, say: Callable[[str], None]
    ) -> None:
        self.name = name
        self.service = service
        self.runs = runs
        self.log = log
        self.restarts = 0
        self.ops_port: int | None = None
        self._say = say
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """Its process id while it lives."""
        process = self.runs.process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start it for the first time."""
        if self.log.exists():
            self.bound_log()
        self.runs.spawn(self.log)

    async def watch(self, changed: Callable[[], None]) -> None:
        """Start it again whenever it ends, until ``stopping``."""
        backoff, began = BACKOFF_FIRST_S, time.monotonic()
        while not self._stopping:
            process = self.runs.process
            assert process is not None
            if process.poll() is None:
                await asyncio.sleep(WATCH_S)
                continue
            if time.monotonic() - began > STEADY_AFTER_S:
                backoff = BACKOFF_FIRST_S
            self.restarts += 1
            words = "" if process.returncode == -signal.SIGKILL else self.last_words()
            self._say(
                f"{self.name} {how_it_ended(process.returncode)}; restart {self.restarts}"
                f" in {backoff:.1f} s{words and f' · it said: {words}'}"
            )
            changed()
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, BACKOFF_MAX_S)
            if self._stopping:
                return
            began = time.monotonic()
            try:
                self.runs.spawn(self.log)
            except OSError as fault:
                self._say(f"{self.name} could not be started: {fault}")
            changed()

    def stopping(self) -> None:
        """Start it no more."""
        self._stopping = True

    def signal(self, number: int) -> None:
        """Tell it something, if it lives."""
        process = self.runs.process
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def ended(self, within_s: float) -> bool:
        """Tell whether it has ended within the bound."""
        until = time.monotonic() + within_s
        while self.pid is not None:
            if time.monotonic() > until:
                return False
            await asyncio.sleep(0.02)
        return True

    def bound_log(self) -> None:
        """Keep the end of a log that grew past ``LOG_BYTES_MAX``, in ``<log>.1``; begin anew."""
        with contextlib.suppress(OSError):
            if self.log.stat().st_size <= LOG_BYTES_MAX:
                return
            with self.log.open("r+b") as file:
                file.seek(-LOG_KEPT_BYTES, os.SEEK_END)
                self.log.with_suffix(".log.1").write_bytes(file.read())
                # Writers append, so they go on at the new end.
                file.truncate(0)

    def last_words(self) -> str:
        """Return the last line of its log, shortened."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 4_000))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1][:300] if lines else ""


def how_it_ended(code: int) -> str:
    """Return how a process ended, for people."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
