"""The ends of logs: told when placement wishes for one, and once when a workload ends."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from mesh_contracts.node import LOG_CHARS_MAX, LogTail
from mesh_contracts.units import NodeId, WorkloadId
from meshkit.clock import Clock

from node_agent.domain.reconcile import Spec
from node_agent.runtimes import process

logger = logging.getLogger(__name__)


class Tails:
    """Tells ends of logs through ``send``, which may lose them: whoever wishes, wishes again."""

    def __init__(
        self, folder: Path, node_id: NodeId, clock: Clock, send: Callable[[LogTail], None]
    ) -> None:
        self._folder = folder
        self._node_id = node_id
        self._clock = clock
        self._send = send
        self._answered: dict[WorkloadId, int] = {}

    def wish(self, wanted: Sequence[Spec]) -> None:
        """Tell the end of each log that is wished for and was not told since."""
        before = self._answered
        self._answered = {one.workload_id: one.log for one in wanted if one.log}
        for workload_id, number in self._answered.items():
            if number > before.get(workload_id, 0):
                self.tell(workload_id, number)

    def tell(self, workload_id: WorkloadId, number: int = 0) -> None:
        """Tell the end of one log."""
        text, cut = process.log_end(self._folder / workload_id, LOG_CHARS_MAX)
        self._send(
            LogTail(
                node_id=self._node_id,
                at=self._clock.now(),
                workload_id=workload_id,
                number=number,
                text=text,
                cut=cut,
            )
        )
