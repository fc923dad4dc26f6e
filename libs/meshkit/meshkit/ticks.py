"""Looking again and again, in step: whatever of a process looks equally often wakes it once, not once each.

Waking is what an idle process costs. Ticks are counted from the process's own start: those of one machine are not in step.
"""

import asyncio
import math
import time
from typing import Final

EARLY_S: Final = 0.005
"""A timer that rings so much before its tick is taken as having reached it: loops count in milliseconds."""

_BEGAN: Final = time.monotonic()


def next_tick(every_s: float, now: float, began: float = _BEGAN) -> float:
    """Return when the next tick of ``every_s`` seconds is after ``now``: both in seconds of the monotonic clock."""
    return began + (math.floor((now - began + EARLY_S) / every_s) + 1) * every_s


async def tick(every_s: float) -> float:
    """Sleep until the next tick, at most ``every_s`` and a little; return when it was due, on the loop's clock."""
    now = asyncio.get_running_loop().time()
    due = next_tick(every_s, now)
    await asyncio.sleep(due - now)
    return due
