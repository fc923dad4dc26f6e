"""Jobs and leases, from what changed to what follows: look at each, tell the engine, write down what it says.

``look_at``, ``advance`` and the others go on until nothing follows any more, and put what nodes should run.
"""

from collections.abc import Collection, Container, Iterable, Sequence
from datetime import datetime
from typing import Any

from mesh_contracts.placement import Reason
from meshkit.store import Transaction

from placement import jobstore, leasestore, members, memory, owners
from placement.ahead import Ahead
from placement.domain import jobs, leases
from placement.domain.engine.notice import (
    Cancelled,
    Curbed,
    Due,
    NotBooked,
    Preempted,
    Queued,
    Reseated,
    Stranded,
    Ticked,
)
from placement.domain.engine.wish import (
    Asked,
    Followed,
    Input,
    Outcome,
    Placed,
    Refused,
    Released,
    SeatsLost,
    Wish,
)
from placement.domain.jobs import WantedJob
from placement.domain.lacks import short_of, why_not
from placement.domain.leases import WantedLease
from placement.domain.members import Turn, may_begin
from placement.domain.telling import of_job, of_lease
from placement.domain.wishes import milliseconds, reserved, wish_of_job
from placement.intents import put_intents
from placement.outcomes import Outcomes
from placement.owners import Owner
from placement.sitememory import Answer

ROUNDS_MAX = 10_000
"""Looks at jobs and leases in one transaction: each leads to few others, and there is an end to it."""


class Work:
    """One transaction's look at jobs and leases; what follows is from ``cause``."""

    def __init__(self, tx: Transaction, cause: Any, now: datetime, ahead: Ahead | None = None) -> None:
        self._tx, self._cause, self._now = tx, cause, now
        self._site: str = cause.site
        self._outcomes = Outcomes(tx, cause, now)
        self._todo, self._touched = self._outcomes.todo, self._outcomes.touched
        self._ahead = ahead or Ahead(tx, self._todo)
        self.curbed = self._outcomes.curbed

    async def run(self, looked_at: Iterable[str] = ()) -> None:
        """Look at some jobs and leases, and at all that follows from this and from whatever the engine was told before."""
        self._todo.extend(looked_at)
        held = await memory.hold(self._tx, self._site)
        rounds = 0
        while held.followed or self._todo:
            rounds += 1
            assert rounds < ROUNDS_MAX, "what follows comes to an end"
            await self.heed_all()
            if self._todo:
                await self._look(self._todo.popleft())
        put_intents(self._tx, *self._touched)

    async def heed_all(self) -> None:
        """See to what followed from what the engine was told, in the order in which it was decided."""
        held = await memory.hold(self._tx, self._site)
        while held.followed:
            one = held.followed.popleft()
            if isinstance(one, Answer):
                await self._heed(one.outcome, one.wish)
            else:
                await self._heed(one)

    async def decided(self, outcome: Outcome, wish: Wish) -> None:
        """See to what was decided about one who asked: after those who gave way to it, and before what follows from that."""
        held = await memory.hold(self._tx, self._site)
        held.followed.append(Answer(outcome, wish))
        await self.heed_all()

    async def _look(self, owner_id: str) -> None:
        if owner_id.startswith("job_"):
            job, there = await self._ahead.take(owner_id)
            if job is None:
                return
            to = jobs.judge(job, there, self._now)
            await self.turn_job(job, to)
        else:
            lease = await leasestore.load(self._tx, owner_id)
            if lease is None:
                return
            there = await members.of_owner(self._tx, owner_id)
            to = leases.judge(lease, there, self._now)
            await self.turn_lease(lease, to)
        late = may_begin(there, to, self._now)
        self._touched.update(await owners.begin_late(self._tx, self._site, late, self._now))

    async def turn_job(self, job: WantedJob, to: Turn) -> None:
        """Make a job what it turns into, tell of it, and look at it again where the engine is to hear of it."""
        await self._apply(to)
        if (to.state, to.reasons, to.failures) != (job.state, job.reasons, job.failures):
            await jobstore.turn(self._tx, job, to, self._now, jobs.due_after(job, self._now))
            await self._outcomes.tell(job, of_job(job, to))
        if to.lost:
            numbers = tuple(one.number for one in to.lost)
            await self.give(SeatsLost(workload=job.job_id, members=numbers, at=milliseconds(self._now)))
        match to.tell:
            case "ask":
                await self._ask(wish_of_job(job))
            case "release" | "cancel":
                await jobstore.set_place(self._tx, job.job_id, "none")
                await self._let_go(job.job_id, to)

    async def turn_lease(self, lease: WantedLease, to: Turn) -> None:
        """Make a lease what it turns into, tell of it, and look at it again where the engine is to hear of it."""
        await self._apply(to)
        for item, reason in to.fails:
            await owners.note_unclean(self._tx, item, reason, self._now)
        for item, step in to.steps:
            await members.step(self._tx, item, step, self._now)
            self._touched.add(item.node_id)
        before = (lease.state, lease.reasons, lease.spoilt)
        if (to.state, to.reasons, to.spoilt) != before:
            await leasestore.turn(self._tx, lease, to, self._now)
            await self._outcomes.tell(lease, of_lease(lease, to))
        match to.tell:
            case "reserve":
                await self._reserve(lease)
            case "ask":
                await self._ask_lease(lease)
            case "release" | "cancel":
                await leasestore.set_place(self._tx, lease.lease_id, "none")
                await self._let_go(lease.lease_id, to)

    async def _apply(self, to: Turn) -> None:
        fails = [(item, "failed", (reason,)) for item, reason in to.fails]
        await members.move_all(self._tx, fails, self._now)
        await members.stop_all(self._tx, to.stops, self._now)
        self._todo.extend(item.owner_id for item in to.stops if item.held_back)
        self._touched.update(item.node_id for item in (*(one for one, _ in to.fails), *to.stops))

    async def _let_go(self, owner_id: str, to: Turn) -> None:
        at = milliseconds(self._now)
        if to.tell == "release":
            await self.give(Released(workload=owner_id, at=at))
        # Of a lease that was booked the rest of its time is anybody's.
        await self.give(Cancelled(name=owner_id, at=at))
        if to.state == "queued":
            self._todo.append(owner_id)

    async def _ask_lease(self, lease: WantedLease) -> None:
        wish = await owners.wish_of(self._tx, lease)
        if isinstance(wish, Reason):
            await self._refuse(lease, (wish,))
            return
        if lease.place == "booked":
            # What is booked begins with the time.
            await self.give(Ticked(at=milliseconds(self._now)))
        await self._ask(wish)

    async def _reserve(self, lease: WantedLease) -> None:
        """Have servers kept for a lease that starts later; refuse it where there will not be enough."""
        wish = await owners.wish_of(self._tx, lease)
        if isinstance(wish, Reason):
            await self._refuse(lease, (wish,))
            return
        held = await memory.hold(self._tx, self._site)
        given = reserved(lease, wish, self._now, since=held.engine.turns.now)
        if given.start >= given.end:
            # By what others were told the time already, it is over; the next look says so.
            return
        outcome = held.apply(given)
        if isinstance(outcome, NotBooked):
            await self._refuse(lease, (short_of(outcome.short),))
            return
        await leasestore.set_place(self._tx, lease.lease_id, "booked")
        booked = Turn(state=lease.state, reasons=(leases.BOOKED,))
        await leasestore.turn(self._tx, lease, booked, self._now)

    async def _ask(self, wish: Wish) -> None:
        outcome = await memory.apply(self._tx, self._site, Asked(wish=wish, at=milliseconds(self._now)))
        await self.decided(outcome, wish)

    async def give(self, given: Input) -> None:
        """Give the engine one input; ``run`` sees to what follows."""
        await self._outcomes.give(given)

    async def _heed(self, outcome: Outcome | Followed, wish: Wish | None = None) -> None:
        self._ahead.forget(getattr(outcome, "workload", ""))
        match outcome:
            case Placed():
                await self._outcomes.seat(outcome)
            case Curbed():
                await self._outcomes.curb(outcome)
            case Queued():
                await self._outcomes.wait(outcome, wish)
            case Refused():
                await self._refused(outcome, wish)
            case Preempted():
                await self._outcomes.preempt(outcome)
            case Reseated():
                await self._outcomes.reseat(outcome)
            case Stranded():
                await self._outcomes.strand(outcome)
            case Due():
                self._todo.append(outcome.workload)
            case _:
                pass

    async def _refused(self, outcome: Refused, wish: Wish | None) -> None:
        assert wish is not None, "only what was just asked for is refused"
        held = await memory.hold(self._tx, self._site)
        why = why_not(outcome.why, outcome.short, wish, held.called, held.engine)
        owner = await owners.load(self._tx, outcome.workload)
        if isinstance(owner, WantedJob):
            await self.turn_job(owner, Turn(state="failed", reasons=why, failures=owner.failures))
        else:
            await self._refuse(owner, why)

    async def _refuse(self, lease: WantedLease, why: Sequence[Reason]) -> None:
        booked = lease.place == "booked"
        to = Turn(state="refused", reasons=tuple(why), tell="cancel" if booked else "")
        await self.turn_lease(lease, to)


async def turn(tx: Transaction, cause: Any, now: datetime, owner: Owner, to: Turn) -> None:
    """Make a job or a lease what somebody wishes it to be, and do all that follows."""
    work = Work(tx, cause, now)
    if isinstance(owner, WantedJob):
        await work.turn_job(owner, to)
    else:
        await work.turn_lease(owner, to)
    await work.run([owners.name_of(owner)])


async def decided(tx: Transaction, cause: Any, now: datetime, outcome: Outcome, wish: Wish) -> None:
    """Do all that follows from what was decided about one who asked."""
    work = Work(tx, cause, now)
    await work.decided(outcome, wish)
    await work.run()


async def give(tx: Transaction, cause: Any, now: datetime, given: Input) -> list[str]:
    """Tell the engine what has changed, and do all that follows; return the endpoints that lost replicas to it."""
    work = Work(tx, cause, now)
    await work.give(given)
    await work.run()
    return work.curbed


async def tick(tx: Transaction, cause: Any, now: datetime) -> None:
    """Have what follows from the time that has passed be so."""
    held = await memory.hold(tx, cause.site)
    if held.is_due(milliseconds(now)):
        await give(tx, cause, now, Ticked(at=milliseconds(now)))


async def look_at(
    tx: Transaction, cause: Any, now: datetime, *named: str, ahead: Ahead | None = None
) -> None:
    """Look at jobs and leases, and at all that follows; ``ahead`` may have been read before."""
    await Work(tx, cause, now, ahead).run(named)


async def advance(
    tx: Transaction,
    cause: Any,
    now: datetime,
    *,
    node_ids: Collection[str] = (),
    freed: Collection[str] = (),
    seen: Container[str] = (),
) -> None:
    """Begin what fits by now; look at what has anything on ``node_ids`` first, but not at what was ``seen``.

    On nodes where something was ``freed``, at what is held back there.
    """
    there = await members.owners_on(tx, node_ids, freed) if node_ids or freed else []
    await Work(tx, cause, now).run(one for one in there if one not in seen)
