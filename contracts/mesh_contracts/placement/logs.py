"""What a workload printed: asked of its node, and kept for a while once it has ended."""

from typing import Any, ClassVar

import msgspec

from mesh_contracts.ask import Ask
from mesh_contracts.units import Count, NodeId, Text, Time, WorkloadId


class LogWished(msgspec.Struct, frozen=True, kw_only=True):
    """The wish has this ``number``: its answer is there once a log of that number, or above, is."""

    workload_id: WorkloadId
    number: Count


class Log(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The end of what a workload printed, as its node read it ``at`` that time; ``cut``: there was more before.

    ``number`` is the wish that it answers; null where its node has told nothing yet.
    """

    workload_id: WorkloadId
    node_id: NodeId
    node: str
    text: str = ""
    at: Time | None = None
    number: Count | None = None
    cut: bool = False
    ended: bool = False


class WishLog(Ask, frozen=True, kw_only=True, tag="placement.log.wish"):
    """Wish for the end of what a workload prints; of one that has ended the last is there already (number 0)."""

    permission: ClassVar[str] = "job.read"
    reply: ClassVar[Any] = LogWished
    changes: ClassVar[bool] = True

    workload: Text


class ReadLog(Ask, frozen=True, kw_only=True, tag="placement.log.read"):
    """Ask for what is there of a workload's log."""

    permission: ClassVar[str] = "job.read"
    reply: ClassVar[Any] = Log

    workload: Text
