"""How long what has failed by itself waits before it begins again."""

from collections.abc import Sequence
from datetime import datetime
from math import ceil

from mesh_contracts.placement import Reason

from placement.domain.jobs import BLAMELESS, WantedJob
from placement.domain.members import BACKING_OFF, Member

BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 60.0


def pause_s(failures: int) -> float:
    """Return the seconds from the last of so many failures in a row: 1, 2, 4 … ``BACKOFF_MAX_S``; none before the first."""
    return min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(failures - 1, 10)) if failures else 0.0


def backing_off(job: WantedJob, last: Sequence[Member], now: datetime) -> Reason | None:
    """Return why members of a job do not begin at once; nothing where it has not failed by itself of late.

    ``last`` are the members that it had before. It waits for 1 s, 2 s, 4 s … ``BACKOFF_MAX_S`` from when one failed.
    """
    failed = [one for one in last if one.state == "failed" and one.reasons]
    own = [one.since for one in failed if one.reasons[0].code not in BLAMELESS]
    if not own:
        return None
    left_s = ceil((max(own) - now).total_seconds() + pause_s(job.failures))
    if left_s <= 0:
        return None
    often = "once" if job.failures == 1 else f"{job.failures} times"
    detail = f"its job has failed {often}: it begins again after {left_s} s"
    return Reason(code=BACKING_OFF, detail=detail, count=left_s)
