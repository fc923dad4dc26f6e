"""What jobs and leases have in common: a wish, seats that they are given, facts that are told of them."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from mesh_contracts.fact import Fact, born_of
from mesh_contracts.placement import Reason, Reseat
from mesh_contracts.units import derived_id
from meshkit.store import Transaction

from placement import jobstore, leasestore, members, memory, nodes, reading, store
from placement.domain import watts
from placement.domain.backoff import backing_off
from placement.domain.engine.wish import Placed, Reseated, Seat, Wish
from placement.domain.fleet import WATTS_DRAWN
from placement.domain.health import on_unclean
from placement.domain.jobs import WantedJob
from placement.domain.leases import WantedLease
from placement.domain.members import LAST_ENDS, Member, Taken
from placement.domain.telling import Told, begun, reseat_of, reseated
from placement.domain.wishes import power_domain, wish_of_job, wish_of_lease
from placement.sums import Devices, Take, held_of

Owner = WantedJob | WantedLease
AnyOwner = TypeVar("AnyOwner", WantedJob, WantedLease)
MILLI_PER_CPU = 1_000


async def load(tx: Transaction, owner_id: str) -> Owner:
    """Return a job or a lease that the engine knows."""
    owner = await jobstore.load(tx, owner_id) or await leasestore.load(tx, owner_id)
    assert owner is not None, "the engine knows it from here"
    return owner


async def wish_of(tx: Transaction, owner: Owner) -> Wish | Reason:
    """Return what the engine is asked for; or why no server here, however empty, is such a one."""
    if isinstance(owner, WantedJob):
        return wish_of_job(owner)
    return wish_of_lease(owner, (await memory.hold(tx, owner.site)).engine.site.specs)


def in_line(tx: Transaction, owner: AnyOwner) -> AnyOwner:
    """Return a job or a lease with its place in line as it is now."""
    if owner.place != "waits":
        return owner
    stand = memory.of(tx.beside).at(owner.site).positions()
    return msgspec.structs.replace(owner, position=stand.get(name_of(owner)))


def name_of(owner: Owner) -> str:
    """Return what the engine calls a job or a lease."""
    return owner.job_id if isinstance(owner, WantedJob) else owner.lease_id


async def seat(
    tx: Transaction, cause: Any, now: datetime, owner: Owner, outcome: Placed
) -> list[Taken]:
    """Write down that all members have their seats, and tell of it; return them."""
    if isinstance(owner, WantedJob):
        attempt, each = owner.attempt + 1, owner.wished.resources
        needs = {one.node: (each.memory_mib, each.cpu_milli) for one in outcome.seats}
        await jobstore.admit(tx, owner, now)
    else:
        # Nobody else is there: all of a leased server is taken.
        attempt = 1
        servers = await reading.load_servers(tx, [one.node for one in outcome.seats])
        needs = {one.node_id: (one.memory_free_mib, one.cpus * MILLI_PER_CPU) for one in servers}
        await leasestore.reserve(tx, owner, now)
    takes = [
        Take(one.node, needs[one.node][0], one.cards, one.milli_each, needs[one.node][1], one.slices)
        for one in outcome.seats
    ]
    devices = await nodes.take(tx, owner.site, takes)
    taken = taken_of(cause, outcome, attempt, devices, needs)
    why = await _first(tx, owner, attempt, {one.node_id for one in taken}, now)
    seats = [(outcome.workload, one, why) for one in taken]
    await members.seat(tx, seats, attempt=attempt, now=now)
    await tell(tx, cause, now, owner, begun(owner, attempt, taken))
    return taken


async def reseat(
    tx: Transaction, cause: Any, now: datetime, job: WantedJob, outcome: Reseated
) -> list[Reseat]:
    """Write down that lost members go on elsewhere, and tell of it; return which, and where."""
    each, mine = job.wished.resources, {one.number: one for one in await members.of_attempt(tx, job)}
    lost = [mine[number] for number in outcome.members]
    assert not any(one.living for one in lost), "no member is there twice"
    seats = [outcome.seats[one.number] for one in lost]
    takes = [
        Take(one.node, each.memory_mib, one.cards, one.milli_each, each.cpu_milli, one.slices)
        for one in seats
    ]
    devices = await nodes.take(tx, job.site, takes)
    pairs = [
        (before, _taken(cause, before, seat, devices)) for before, seat in zip(lost, seats, strict=True)
    ]
    why = await _first(tx, job, job.attempt, {one.node_id for _, one in pairs}, now)
    await members.seat(tx, [(job.job_id, one, why) for _, one in pairs], attempt=job.attempt, now=now)
    await members.replaced(tx, pairs)
    moved = [reseat_of(before, one) for before, one in pairs]
    # One cause may have a job lose members more than once.
    await tell(tx, cause, now, job, reseated(job, moved), salt=moved[0].successor_id)
    return moved


def _taken(cause: Any, before: Member, seat: Seat, devices: Devices) -> Taken:
    """Return what a member has where it goes on."""
    return Taken(
        workload_id=derived_id("workload", _caused_at(cause), before.owner_id, before.workload_id),
        number=before.number,
        node_id=seat.node,
        devices=held_of(seat.node, seat, devices),
        memory_mib=before.memory_mib,
        cpu_milli=before.cpu_milli,
    )


def taken_of(
    cause: Any,
    outcome: Placed,
    attempt: int,
    devices: Devices,
    needs: Mapping[str, tuple[int, int]],
) -> list[Taken]:
    """Return what each member has where it sits; ``needs``: memory and CPU of a member on each node."""
    caused_at = _caused_at(cause)
    return [
        Taken(
            workload_id=derived_id("workload", caused_at, outcome.workload, str(attempt), str(number)),
            number=number,
            node_id=one.node,
            devices=held_of(one.node, one, devices),
            memory_mib=needs[one.node][0],
            cpu_milli=needs[one.node][1],
        )
        for number, one in enumerate(outcome.seats)
    ]


def _caused_at(cause: Any) -> datetime:
    """Return when a fact occurred, or an ask was asked."""
    at: datetime = getattr(cause, "occurred_at", None) or cause.asked_at
    return at


async def crowded(
    tx: Transaction,
    site: str,
    nodes: Collection[str],
    leaving: Mapping[str, Collection[str]] | None = None,
) -> bool:
    """Tell whether who gave way to others, and has not ended, still draws what some of ``nodes`` would draw now.

    ``leaving``: who that is, where it is known already.
    """
    power = (await memory.hold(tx, site)).engine.power
    if not power.capped:
        return False
    leaving = await members.leaving(tx, site) if leaving is None else leaving
    if not leaving:
        return False
    fleet = await reading.load_servers(tx, sorted({*leaving, *nodes}))
    drawn = watts.drawn_late(fleet, leaving, nodes)
    return any(
        power.room_of(level, power_domain(level, name)) < more for (level, name), more in drawn.items()
    )


async def begin_late(tx: Transaction, site: str, late: Sequence[Member], now: datetime) -> set[str]:
    """Have members begin that were held back, where no cap is in their way any more; return their nodes."""
    there = {one.node_id for one in late}
    if not late or await crowded(tx, site, there):
        return set()
    await members.move_all(tx, [(one, "assigned", ()) for one in late], now)
    return there


async def _first(
    tx: Transaction, owner: Owner, attempt: int, nodes: Collection[str], now: datetime
) -> tuple[Reason, ...]:
    """Return what members wait for that have just got their seats; nothing where they may begin."""
    job = owner if isinstance(owner, WantedJob) and (attempt > 1 or owner.failures) else None
    there = await members.of_owner(tx, job.job_id, job.attempt) if job is not None else ()
    if any(one.living and one.attempt < attempt for one in there):
        return (LAST_ENDS,)
    if job is not None and job.failures:
        last = [one for one in there if one.attempt == job.attempt and one.replaced_by is None]
        paused = backing_off(job, last, now)
        if paused is not None:
            return (paused,)
    return (WATTS_DRAWN,) if await crowded(tx, owner.site, nodes) else ()


async def tell(
    tx: Transaction, cause: Any, now: datetime, owner: Owner, told: Told | None, *, salt: str = ""
) -> None:
    """Tell a fact of a job or a lease, if there is one to tell."""
    if told is not None:
        await tx.tell(fact_of(cause, now, owner, told, salt))


def fact_of(cause: Any, now: datetime, owner: Owner, told: Told, salt: str = "") -> Fact:
    """Return what is told of a job or a lease as the fact it is; ``salt`` tells it from others of its kind."""
    kind, fields = told
    scope = {"organization": owner.organization, "project": owner.project}
    # One cause may have a job begin, give way and begin again: each attempt's facts are its own.
    salt += str(owner.attempt) if isinstance(owner, WantedJob) else ""
    born = born_of(cause, now, kind, key=name_of(owner), salt=salt, **scope)
    return kind(**born, **fields)


async def note_unclean(tx: Transaction, item: Member, why: Reason, now: datetime) -> None:
    """Have a lost node be taken out once it is heard again: it may hold what its last tenant left."""
    server = await reading.load_server(tx, item.node_id)
    assert server is not None, "a member's node is known"
    await store.turn(tx, server, on_unclean(server, why), now)
    (await memory.hold(tx, server.site)).moved(server.node_id)
