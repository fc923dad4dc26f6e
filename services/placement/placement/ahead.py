"""Jobs and what they have on nodes, read for many at once before each is looked at."""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from meshkit.store import Transaction

from placement import jobstore, members
from placement.domain.jobs import WantedJob
from placement.domain.members import Member

AT_ONCE: Final = 64
"""Jobs that are read together."""


class Ahead:
    """What the next looks need; ``coming`` are those who will be looked at, the next one first.

    Whoever changes a job or its members has it forgotten.
    """

    def __init__(self, tx: Transaction, coming: Iterable[str]) -> None:
        self._tx, self._coming = tx, coming
        self._read: dict[str, tuple[WantedJob, list[Member]]] = {}

    async def take(self, job_id: str) -> tuple[WantedJob | None, list[Member]]:
        """Return a job as it is, and what it has on nodes; by then it is forgotten here."""
        if job_id not in self._read:
            others = (one for one in self._coming if one.startswith("job_") and one not in self._read)
            jobs = await jobstore.load_all(self._tx, [job_id, *islice(others, AT_ONCE - 1)])
            there = await members.of_jobs(self._tx, jobs.values())
            self._read |= {one: (job, there[one]) for one, job in jobs.items()}
        return self._read.pop(job_id, (None, []))

    def forget(self, owner_id: str) -> None:
        """Have it read again, should it be looked at."""
        self._read.pop(owner_id, None)
