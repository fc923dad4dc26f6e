"""A device that remembers when it last had something to do."""

import time
from collections.abc import Callable
from typing import Any, cast

from gpuprobe.backend import Backend

_WAITS = ("timed", "fetch", "wait", "both")
"""When these return, the device has nothing left to do."""

_WORKS = ("timed", "both")
"""And these gave it something, if only a library's product."""


class Watched:
    """Passes everything on to a backend; ``idle_at`` is when the last kernel was known to be done."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._busy = False
        self.idle_at = time.monotonic()

    @classmethod
    def over(cls, backend: Backend) -> tuple[Backend, "Watched"]:
        """Return a backend to use, and the same to ask."""
        watched = cls(backend)
        return cast("Backend", watched), watched

    def settle(self) -> None:
        """Wait for what nobody waited for."""
        if self._busy:
            self._backend.wait()
            self._idle()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._backend, name)
        if name in {"launch", "move"}:
            return self._begins(found)
        return self._ends(found, always=name in _WORKS) if name in _WAITS else found

    def _begins(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def begun(*arguments: Any, **named: Any) -> Any:
            self._busy = True
            return work(*arguments, **named)

        return begun

    def _ends(self, work: Callable[..., Any], *, always: bool) -> Callable[..., Any]:
        def ended(*arguments: Any, **named: Any) -> Any:
            result = work(*arguments, **named)
            if self._busy or always:
                self._idle()
            return result

        return ended

    def _idle(self) -> None:
        self._busy = False
        self.idle_at = time.monotonic()
