"""How a process itself is: its memory, its CPU time, its loop's lag, the age of the buckets it holds."""

import asyncio
import os
import resource
from collections.abc import Callable, Mapping
from typing import Final

from meshkit.bucket import Watched
from meshkit.telemetry import METRICS
from meshkit.ticks import tick

LOOK_EVERY_S: Final = 1.0
AGE_SHOWN_MAX_S: Final = 1e9
"""What stands for the age of a bucket whose writer was never heard."""
STATM_BYTES_MAX: Final = 256
"""Seven numbers."""

Buckets = Callable[[], Mapping[str, Watched | None]]  # type: ignore[type-arg]


async def watch(buckets: Buckets = dict) -> None:
    """Set the process's gauges each second, for ever. ``buckets`` gives what it holds in memory."""
    loop = asyncio.get_running_loop()
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    spent = 0.0
    with open("/proc/self/statm", "rb", buffering=0) as memory:  # noqa: ASYNC230, PTH123 - no disk
        while True:
            for name, held in buckets().items():
                if held is not None:
                    age_s = min(held.age_s(), AGE_SHOWN_MAX_S)
                    METRICS.set("mesh_bucket_age_seconds", age_s, bucket=name)
            used = resource.getrusage(resource.RUSAGE_SELF)
            now_spent = used.ru_utime + used.ru_stime
            METRICS.count("mesh_process_cpu_seconds_total", max(0.0, now_spent - spent))
            spent = now_spent
            pages = int(os.pread(memory.fileno(), STATM_BYTES_MAX, 0).split()[1])
            METRICS.set("mesh_process_resident_bytes", pages * page_bytes)
            due = await tick(LOOK_EVERY_S)
            METRICS.set("mesh_loop_lag_seconds", max(0.0, loop.time() - due))
