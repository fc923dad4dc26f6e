"""What the steps of the demo share: who calls, where, and what was seen so far."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mesh_tools.demo.client import Client

T = TypeVar("T")
POLL_S = 0.05


@dataclass
class Scene:
    """The mesh under the demo, and what its steps found."""

    folder: Path
    began: float
    ready: dict[str, Any]
    operator: Client
    tenant: Client
    request_id: str = ""
    receipt: dict[str, Any] = field(default_factory=dict)
    cursor: str = ""
    broken_node: str = ""


def until(what: str, seconds: float, look: Callable[[], T | None]) -> T:
    """Return what ``look`` sees once it sees something. Raises ``AssertionError`` after ``seconds``."""
    last = time.monotonic() + seconds
    while True:
        seen = look()
        if seen is not None:
            return seen
        assert time.monotonic() < last, f"not within {seconds:g} s: {what}"
        time.sleep(POLL_S)
