"""The bucket ``intents``: all that each node should run and do, as the tables say it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from mesh_contracts.placement import Intent, MemberSpec
from meshkit.store import Row, Transaction
from meshkit.telemetry import traceparent

from placement import jobstore, leasestore, logs, members, reading
from placement.domain.fleet import Placed, Wanted
from placement.domain.jobs import WantedJob, rendezvous
from placement.domain.members import Member
from placement.domain.show import instance_of, intent_of

KNOWN_MAX = 16_384
"""Jobs that are remembered beside the database."""


class _Known(dict[str, WantedJob]):
    """Jobs by id, as they were at some moment: only what never changes counts of them."""


class _Touched(dict[str, str | None]):
    """Nodes that should run other things once their transaction has committed, each with the trace it is of."""


def put_intents(tx: Transaction, *node_ids: str) -> None:
    """Have the bucket hold all that some nodes should run, as the tables say it before ``tx`` commits."""
    if not node_ids:
        return
    touched: _Touched | None = tx.own.get(_Touched)
    if touched is None:
        touched = tx.own[_Touched] = _Touched()

        async def put() -> None:
            await _put(tx, tx.own.pop(_Touched))

        tx.before_commit(put)
    touched |= dict.fromkeys(node_ids, traceparent())


async def _put(tx: Transaction, touched: Mapping[str, str | None]) -> None:
    nodes = {row["node_id"]: row for row in await reading.nodes_of(tx, sorted(touched))}
    for node_id, intent in (await _intents(tx, nodes, sorted(nodes))).items():
        await tx.put("intents", node_id, intent, traceparent=touched[node_id])


async def all_intents(tx: Transaction) -> dict[str, Intent]:
    """Return the whole bucket ``intents``."""
    nodes = {row["node_id"]: row for row in await reading.all_nodes(tx)}
    return await _intents(tx, nodes, None)


def know(tx: Transaction, jobs: Iterable[WantedJob]) -> None:
    """Remember jobs that were just written: what is told of them to their nodes never changes, and is not read again."""
    known = tx.beside.setdefault(_Known, _Known())
    for job in jobs:
        if len(known) >= KNOWN_MAX:
            known.clear()
        known[job.job_id] = job


async def _intents(
    tx: Transaction, nodes: Mapping[str, Row], only: Sequence[str] | None
) -> dict[str, Intent]:
    """Return the intents of ``nodes`` by their ids; ``only`` those, where not all are meant."""
    running: dict[str, list[tuple[Wanted, Placed]]] = defaultdict(list)
    wanted: dict[str, Wanted] = {}
    for item in await reading.running_on(tx, only):
        if item.endpoint_id not in wanted:
            found = await reading.load_wanted(tx, item.endpoint_id)
            assert found is not None, "the table's foreign key holds"
            wanted[item.endpoint_id] = found
        running[item.node_id].append((wanted[item.endpoint_id], item))
    there: dict[str, list[Member]] = defaultdict(list)
    for member in await members.on_nodes(tx, only):
        there[member.node_id].append(member)
    begun = {node: _begun(running[node], there[node]) for node in nodes}
    there_now = [one for _, stays in begun.values() for one in stays]
    runs_now = [item for runs, _ in begun.values() for _, item in runs]
    ids = [one.workload_id for one in there_now] + [one.workload_id for one in runs_now]
    wished = await logs.wished(tx, ids)
    specs = await _specs(tx, there_now, wished, nodes)
    return {
        node: intent_of(
            node,
            nodes[node]["check_wished"],
            runs,
            [specs[one.workload_id] for one in stays],
            wished,
            asked=nodes[node]["check_asked"],
        )
        for node, (runs, stays) in begun.items()
    }


def _begun(
    running: Sequence[tuple[Wanted, Placed]], there: Sequence[Member]
) -> tuple[list[tuple[Wanted, Placed]], list[Member]]:
    """Return what a node should run: what gives way is gone first, before another has its place."""
    left = _left(item for item in there if not item.holds)
    runs = [
        (wanted, item)
        for wanted, item in running
        if not item.held_back and (not item.living or not _comes_after(item, left))
    ]
    left = _left((*(item for item in there if not item.holds), *_stopping(runs)))
    return runs, [item for item in there if _stays(item) and not _comes_after(item, left)]


def _left(items: Iterable[Placed | Member]) -> dict[str, datetime]:
    """Return since when somebody is leaving each device."""
    left: dict[str, datetime] = {}
    for item in items:
        for held in item.devices:
            left[held.device_id] = min(item.since, left.get(held.device_id, item.since))
    return left


def _stopping(runs: Iterable[tuple[Wanted, Placed]]) -> Iterator[Placed]:
    return (item for _, item in runs if not item.living)


def _comes_after(item: Placed | Member, left: Mapping[str, datetime]) -> bool:
    """Tell whether one got its seat when another left a device of it: who shared that with it before stays."""
    return any(
        held.device_id in left and item.created_at >= left[held.device_id] for held in item.devices
    )


def _stays(item: Member) -> bool:
    goes = item.going and not item.held_back
    return goes or (item.kind == "lease" and item.step in {"erase", "attest"} and item.holds)


async def _jobs(tx: Transaction, ids: Sequence[str]) -> dict[str, WantedJob]:
    """Return those of the ids that are jobs', as they were when they were asked for."""
    known = tx.beside.setdefault(_Known, _Known())
    found = {one: known[one] for one in ids if one in known}
    missing = [one for one in ids if one not in found]
    if missing:
        loaded = await jobstore.load_all(tx, missing)
        know(tx, loaded.values())
        found |= loaded
    return found


async def _specs(
    tx: Transaction, items: Sequence[Member], wished: Mapping[str, int], nodes: Mapping[str, Row]
) -> dict[str, MemberSpec]:
    """Return what each member is to its node, by its workload's id; ``wished`` is the last wish for each log."""
    owners = sorted({item.owner_id for item in items})
    jobs = await _jobs(tx, owners)
    leases = await leasestore.load_all(tx, owners) if len(jobs) < len(owners) else {}
    servers = {one: len(await members.of_owner(tx, one)) for one in leases}
    # Who is alone is its gang's first itself.
    gangs = sorted(one for one, job in jobs.items() if job.wished.members > 1)
    firsts = await members.firsts(tx, gangs) if gangs else {}
    specs: dict[str, MemberSpec] = {}
    for item in items:
        job = jobs.get(item.owner_id)
        owner = job or leases[item.owner_id]
        alone = job is not None and job.wished.members == 1
        address = nodes[item.node_id]["address"] if alone else None
        first = address or firsts.get((item.owner_id, item.attempt))
        specs[item.workload_id] = MemberSpec(
            workload_id=item.workload_id,
            kind=item.kind,
            owner_id=item.owner_id,
            organization=owner.organization,
            project=owner.project,
            name=owner.name,
            number=item.number,
            members=job.wished.members if job else servers[item.owner_id],
            devices=[held.device_id for held in item.devices],
            attempt=item.attempt,
            resources=None if job is None else job.wished.resources,
            mig=None if job is None else instance_of(job.wished.resources, item.devices),
            command=None if job is None else job.wished.command,
            rendezvous=None if first is None else rendezvous(item.owner_id, item.attempt, first),
            step="hold" if item.step == "done" else item.step,
            log=wished.get(item.workload_id, 0),
        )
    return specs
