"""What the engine decided about jobs and leases, written down and told: who sits, waits, gives way, is seated anew."""

from collections import deque
from datetime import datetime
from typing import Any

import msgspec
from meshkit.store import Transaction

from placement import jobstore, leasestore, members, memory, owners, reading, replicas
from placement.domain import jobs
from placement.domain.engine.notice import Curbed, Preempted, Queued, Reseated, Stranded
from placement.domain.engine.wish import Input, Placed, Released, Wish
from placement.domain.jobs import WantedJob
from placement.domain.lacks import short_of, waits_for, why_not
from placement.domain.members import Turn
from placement.domain.telling import Told, of_job, queued
from placement.domain.wishes import at_of, milliseconds, wish_of_job
from placement.owners import Owner


class Outcomes:
    """One transaction's outcomes, from ``cause``: ``todo`` are to be looked at for them, ``touched`` run other things."""

    def __init__(self, tx: Transaction, cause: Any, now: datetime) -> None:
        self._tx, self._cause, self._now = tx, cause, now
        self._site: str = cause.site
        self.todo: deque[str] = deque()
        self.touched: set[str] = set()
        self.curbed: list[str] = []

    async def give(self, given: Input) -> None:
        """Give the engine one input; what follows stands in the memory until somebody sees to it."""
        await memory.apply(self._tx, self._site, given)

    async def tell(self, owner: Owner, told: Told | None) -> None:
        """Tell a fact of a job or a lease, if there is one to tell."""
        await owners.tell(self._tx, self._cause, self._now, owner, told)

    async def seat(self, outcome: Placed) -> None:
        """Have all members sit where they do."""
        owner = await owners.load(self._tx, outcome.workload)
        if owner.over:
            # It gave way, and was let go of before it was seen what else became of it.
            return
        taken = await owners.seat(self._tx, self._cause, self._now, owner, outcome)
        self.touched |= {one.node_id for one in taken}
        self.todo.append(outcome.workload)

    async def wait(self, outcome: Queued, wish: Wish | None) -> None:
        """Have one wait; ``wish`` is what it asks for, where it has just asked."""
        start = at_of(outcome.start)
        owner = await owners.load(self._tx, outcome.workload)
        if owner.over:
            return
        held = await memory.hold(self._tx, self._site)
        why = owner.reasons
        if wish is not None:
            why = waits_for(outcome, wish, held.called, held.engine)
        elif outcome.short is not None:
            why = (short_of(outcome.short),)
        waits = (owner.place, owner.reasons, owner.position, owner.expected_start_at)
        if waits != ("waits", why, outcome.position, start):
            kept = jobstore.wait if isinstance(owner, WantedJob) else leasestore.wait
            await kept(self._tx, outcome.workload, why, outcome.position, start)
        if wish is not None and isinstance(owner, WantedJob):
            await self.tell(owner, queued(owner, why))

    async def preempt(self, outcome: Preempted) -> None:
        """Have a job stop whose seats another has got."""
        job = await jobstore.load(self._tx, outcome.workload)
        if job is not None and job.place == "sits":
            await self._gives_way(job, jobs.preempted(job, outcome.by), queued=outcome.queued)

    async def curb(self, outcome: Curbed) -> None:
        """Have a replica stop; its endpoint is to be settled by whoever gave the input (``curbed``)."""
        item = await reading.load_workload(self._tx, outcome.workload)
        # One that drains might be taken back: it is to end now.
        if item is None or not (item.living or item.draining):
            return
        await replicas.stop(self._tx, item, self._now, (jobs.shed_by(outcome.by),))
        self.touched.add(item.node_id)
        self.curbed.append(item.endpoint_id)

    async def reseat(self, outcome: Reseated) -> None:
        """Have those members go on elsewhere that are lost; the others are not told of it."""
        job = await jobstore.load(self._tx, outcome.workload)
        assert job is not None, "only a job says which of its members are lost"
        assert job.place == "sits", "who has lost some of its seats has the others"
        moved = await owners.reseat(self._tx, self._cause, self._now, job, outcome)
        self.touched |= {node for one in moved for node in (one.node_id, one.to_node_id)}
        self.todo.append(outcome.workload)

    async def strand(self, outcome: Stranded) -> None:
        """Have a job stop as a whole that has no other seats for members it lost: it has none any more."""
        job = await jobstore.load(self._tx, outcome.workload)
        assert job is not None, "only a job says which of its members are lost"
        mine = await members.of_attempt(self._tx, job)
        lost = [one for one in mine if not one.living and one.reasons]
        called = (await memory.hold(self._tx, self._site)).called
        wish = msgspec.structs.replace(wish_of_job(job), members=len(lost))
        to = jobs.stranded(job, lost, why_not(outcome.why, None, wish, called))
        await self._gives_way(job, to, queued=outcome.queued)
        self.todo.append(outcome.workload)

    async def _gives_way(self, job: WantedJob, to: Turn, *, queued: bool) -> None:
        there = await members.of_owner(self._tx, job.job_id, job.attempt)
        held = [one for one in there if one.holds]
        await members.yield_places(self._tx, held, self._now, to.reasons[0])
        self.touched.update(one.node_id for one in held)
        if job.over:
            # It ends as it was to, and does not come again.
            await jobstore.set_place(self._tx, job.job_id, "none")
            if queued:
                await self.give(Released(workload=job.job_id, at=milliseconds(self._now)))
            return
        await jobstore.turn(self._tx, job, to, self._now, None)
        await jobstore.set_place(self._tx, job.job_id, "waits" if queued else "none")
        await self.tell(job, of_job(job, to))
