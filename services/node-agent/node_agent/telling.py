"""How the agent tells: facts of this node, written to its journal before anything else happens."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from mesh_contracts.fact import Fact, tag_of
from mesh_contracts.node import WorkloadFailed, WorkloadReady, WorkloadStarted, WorkloadStopped
from mesh_contracts.units import NodeId, Site, WorkloadId, derived_id, new_id
from meshkit.bus import Bus
from meshkit.clock import Clock
from meshkit.journal import Journal

Tell = Callable[[Fact], object]
DRAINED_POLL_S = 0.02


class Teller:
    """Fills in what every fact of this node carries; its key is the node's id."""

    def __init__(self, tell: Tell, node_id: NodeId, site: Site, clock: Clock) -> None:
        self.node_id = node_id
        self._tell = tell
        self._site = site
        self._clock = clock

    def tell(self, kind: type[Fact], **content: Any) -> None:
        """Tell a fact under a fresh id. Raises ``JournalFull``."""
        self._told(kind, new_id("fact"), content)

    def tell_of(
        self,
        kind: type[WorkloadStarted | WorkloadReady | WorkloadStopped | WorkloadFailed],
        workload_id: WorkloadId,
        incarnation: int,
        **content: Any,
    ) -> None:
        """Tell what became of a workload. Raises ``JournalFull``.

        The id follows from the workload and the number of its start: told again after a kill it is
        the same fact, heard once.
        """
        fact_id = derived_id("fact", _born(workload_id), tag_of(kind), workload_id, str(incarnation))
        self._told(kind, fact_id, {"workload_id": workload_id, **content})

    def _told(self, kind: Callable[..., Fact], fact_id: str, content: dict[str, Any]) -> None:
        envelope: dict[str, Any] = {
            "fact_id": fact_id,
            "key": self.node_id,
            "site": self._site,
            "occurred_at": self._clock.now(),
        }
        self._tell(kind(**envelope, **content, node_id=self.node_id))


async def drained(journal: Journal, bus: Bus, within_s: float) -> None:
    """Wait until all was told that a journal holds, at most so long, and no longer than there is a bus."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while journal.backlog and bus.connected:  # noqa: ASYNC110 - nothing to wait on
                await asyncio.sleep(DRAINED_POLL_S)


def _born(workload_id: WorkloadId) -> datetime:
    """Return when an id was drawn: a UUIDv7 begins with it."""
    milliseconds = int(workload_id.rpartition("_")[2].replace("-", "")[:12], 16)
    return datetime.fromtimestamp(milliseconds / 1_000, UTC)
