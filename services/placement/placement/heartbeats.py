"""What nodes' heartbeats say, in memory: who lives, and what runs there."""

from collections.abc import Collection, Mapping
from datetime import datetime

from mesh_contracts.node import Heartbeat, WorkloadStatus
from meshkit.clock import Clock

from placement.domain.fleet import ENDED, Placed
from placement.domain.members import Member

ABSENT_AFTER_S = 30.0
"""A workload that its node's heartbeats have not listed for this long is not there."""
NODES_MAX = 100_000
"""Nodes whose heartbeats are held; further ones are not."""


class Heartbeats:
    """The last of each node, and when. ``counted_from``: no silence is counted from before."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.heard: dict[str, float] = {}
        self._seen_at: dict[str, datetime] = {}
        self._statuses: dict[str, dict[str, WorkloadStatus]] = {}
        self._listed: dict[str, dict[str, float]] = {}
        self.counted_from = clock.monotonic()

    def on_heartbeat(self, beat: Heartbeat) -> None:
        """Note that a node lives, and what it runs."""
        if beat.node_id not in self.heard and len(self.heard) >= NODES_MAX:
            return
        now = self._clock.monotonic()
        self.heard[beat.node_id] = now
        self._seen_at[beat.node_id] = self._clock.now()
        # One that has ended is told by a fact; where that is missing it counts as not listed.
        self._statuses[beat.node_id] = {
            status.workload_id: status for status in beat.workloads if status.state not in ENDED
        }
        # What was listed longer ago than that counts as absent either way.
        listed = self._listed.get(beat.node_id, {}).items()
        kept = {workload: at for workload, at in listed if now - at <= ABSENT_AFTER_S}
        self._listed[beat.node_id] = kept | dict.fromkeys(self._statuses[beat.node_id], now)

    def seen_at(self, node_id: str) -> datetime | None:
        """Return when this process last heard a node."""
        return self._seen_at.get(node_id)

    def speaks(self, node_id: str, within_s: float) -> bool:
        """Tell whether a node was heard so short a time ago."""
        heard = self.heard.get(node_id)
        return heard is not None and self._clock.monotonic() - heard < within_s

    def statuses(self, node_id: str) -> Mapping[str, WorkloadStatus]:
        """Return what a node said last of what it runs, by workload."""
        return self._statuses.get(node_id, {})

    def absent_s(self, item: Placed | Member, now: datetime) -> float:
        """Return for how long a workload's node has spoken without listing it, at least since we began."""
        since_change = (now - item.since).total_seconds()
        listed = self._listed.get(item.node_id, {})
        floor = max(listed.get(item.workload_id, self.counted_from), self.counted_from)
        return min(since_change, self._clock.monotonic() - floor)

    def forget(self, known: Collection[str]) -> None:
        """Forget nodes that are not known any more."""
        for held in (self.heard, self._seen_at, self._statuses, self._listed):
            for node_id in [node_id for node_id in held if node_id not in known]:
                del held[node_id]
