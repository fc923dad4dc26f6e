"""Callers that stream without pause, and remember exactly what they saw."""

import json
import threading
import time
from dataclasses import dataclass
from typing import Any, Self

from mesh_tools.demo.client import Client, events

STREAM_WITHIN_S = 15.0


@dataclass
class Seen:
    """One request as its client saw it."""

    request_id: str = ""
    status: int = 0
    tokens: int = 0
    usage: dict[str, Any] | None = None
    error: str = ""


class Traffic:
    """``callers`` threads that stream one completion after the other until told to stop."""

    def __init__(
        self, caller: Client, *, callers: int = 3, model: str = "tiny", tokens: int = 24
    ) -> None:
        self._caller = caller
        self._body = {
            "model": model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": tokens,
            "messages": [{"role": "user", "content": "go on"}],
        }
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.seen: list[Seen] = []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(STREAM_WITHIN_S + 5)

    @property
    def answered(self) -> int:
        """How many requests ended with usage so far."""
        with self._lock:
            return sum(1 for seen in self.seen if seen.usage is not None)

    def _run(self) -> None:
        while not self._stop.is_set():
            seen = Seen()
            try:
                self._one(seen)
            except (OSError, ValueError) as fault:
                seen.error = f"{type(fault).__name__}: {fault}"
            with self._lock:
                self.seen.append(seen)
            if seen.usage is None:
                time.sleep(0.05)

    def _one(self, seen: Seen) -> None:
        connection, response = self._caller.open("POST", "/v1/chat/completions", self._body)
        try:
            seen.status = response.status
            seen.request_id = response.headers.get("x-request-id", "")
            if response.status != 200:
                seen.error = response.read().decode(errors="replace")
                return
            for event in events(response, seconds=STREAM_WITHIN_S):
                if event.data == "[DONE]":
                    return
                chunk = json.loads(event.data)
                if "error" in chunk:
                    seen.error = json.dumps(chunk)
                    return
                seen.usage = chunk.get("usage") or seen.usage
                if any(choice.get("delta", {}).get("content") for choice in chunk["choices"]):
                    seen.tokens += 1
        finally:
            connection.close()
