"""Work beside the doors: begun again where it fails, ended in order."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from meshkit.errors import Unavailable
from meshkit.telemetry import METRICS

AGAIN_MIN_S: Final = 0.1
AGAIN_MAX_S: Final = 5.0
END_WITHIN_S: Final = 1.0

logger = logging.getLogger(__name__)

Work = Callable[[], Awaitable[None]]


class Supervised:
    """Named tasks, each run until it returns; one that raises is begun again, with backoff."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, name: str, work: Work) -> None:
        """Run ``work``. Names are unique; those of one group begin with the same word."""
        assert name not in self._tasks, name
        self._tasks[name] = asyncio.create_task(supervise(name, work), name=name)

    async def finish(self, group: str, within_s: float) -> None:
        """Wait until a group's tasks have returned; cancel those that have not in time."""
        await _end(self._of(group), within_s)

    async def stop(self, *but: str) -> None:
        """Cancel every task but those of the groups named."""
        kept = {task for group in but for task in self._of(group)}
        ending = [task for task in self._tasks.values() if task not in kept]
        for task in ending:
            task.cancel()
        await _end(ending, END_WITHIN_S)

    def _of(self, group: str) -> list[asyncio.Task[None]]:
        return [task for name, task in self._tasks.items() if name.partition(" ")[0] == group]


async def _end(tasks: list[asyncio.Task[None]], within_s: float) -> None:
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=within_s)
    for task in late:
        logger.warning("%s did not end in time", task.get_name())
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=END_WITHIN_S)


async def first_of(work: asyncio.Task[None], *events: asyncio.Event) -> None:
    """Return once one of the events is set; what ``work`` ends with before that comes through."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait({work, *waits}, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    if work.done():
        work.result()


async def supervise(name: str, work: Work) -> None:
    """Run ``work`` until it returns; where it raises it is begun again, with backoff."""
    wait = AGAIN_MIN_S
    loop = asyncio.get_running_loop()
    while True:
        begun = loop.time()
        try:
            await work()
        except Exception as fault:
            METRICS.count("mesh_tasks_failed_total", task=name)
            if loop.time() - begun > AGAIN_MAX_S:
                wait = AGAIN_MIN_S
            if isinstance(fault, Unavailable):
                logger.warning("%s waits; it is begun again in %s s: %s", name, wait, fault)
            else:
                logger.exception("%s failed; it is begun again in %s s", name, wait)
            await asyncio.sleep(wait)
            wait = min(wait * 2, AGAIN_MAX_S)
        else:
            return
