"""Calls into a driver that may hang: from a thread of its own, so that whoever asks goes on."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Stuck(Exception):
    """The driver does not answer: this call, or one before it, has not come back."""


class DriverThread:
    """One thread, one call at a time. It is a daemon: a call that never returns keeps no process from ending."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self._turn = threading.Lock()
        self._pending: Future[Any] | None = None
        self._since = 0.0
        threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def stuck_s(self) -> float:
        """For how long the call that runs now has not come back; 0 where none runs."""
        pending = self._pending
        return 0.0 if pending is None or pending.done() else time.monotonic() - self._since

    def call(self, what: Callable[[], T], within_s: float) -> T:
        """Return what a call returns, made once those of other threads are. Raises what it raises, and ``Stuck``."""
        until = time.monotonic() + within_s
        if not self._turn.acquire(timeout=within_s):
            raise Stuck("another call has not come back")
        try:
            if self._pending is not None and not self._pending.done():
                raise Stuck("an earlier call has not come back")
            future: Future[T] = Future()
            self._pending, self._since = future, time.monotonic()
            self._calls.put((what, future))
            return self._answer(future, max(0.0, until - time.monotonic()), within_s)
        finally:
            self._turn.release()

    def _answer(self, future: "Future[T]", left_s: float, within_s: float) -> T:
        try:
            return future.result(left_s)
        except TimeoutError as fault:
            if future.done():
                raise
            raise Stuck(f"no answer within {within_s:g} s") from fault

    def _run(self) -> None:
        while True:
            what, future = self._calls.get()
            try:
                future.set_result(what())
            except BaseException as fault:  # noqa: BLE001 - whoever asked is told
                future.set_exception(fault)
