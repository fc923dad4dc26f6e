"""The bucket ``intents``: all that each node should run and do, as the tables say it."""

from collections.abc import Sequence

from mesh_contracts.placement import Intent, MemberSpec
from meshkit.store import Transaction

from placement import jobstore, leasestore, members, reading
from placement.domain.members import Member
from placement.domain.show import intent_of


async def put_intent(tx: Transaction, node_id: str) -> None:
    """Have the bucket hold all that a node should run."""
    row = await tx.row("SELECT check_wished FROM node WHERE node_id = $1", node_id)
    if row is None:
        return
    await tx.put("intents", node_id, await _intent(tx, node_id, row["check_wished"]))


async def all_intents(tx: Transaction) -> dict[str, Intent]:
    """Return the whole bucket ``intents``."""
    return {
        row["node_id"]: await _intent(tx, row["node_id"], row["check_wished"])
        for row in await reading.all_nodes(tx)
    }


async def _intent(tx: Transaction, node_id: str, check: int) -> Intent:
    running = []
    for item in await reading.load_running(tx, node_id):
        wanted = await reading.load_wanted(tx, item.endpoint_id)
        assert wanted is not None, "the table's foreign key holds"
        running.append((wanted, item))
    there = await members.on_node(tx, node_id)
    left = {held.device_id for _, item in running if not item.living for held in item.devices}
    left |= {held.device_id for item in there if not item.holds for held in item.devices}
    # What gives way is gone first: its devices are not another's before.
    stays = [
        item for item in there if _stays(item) and not left & {held.device_id for held in item.devices}
    ]
    return intent_of(node_id, check, running, await _specs(tx, stays))


def _stays(item: Member) -> bool:
    if item.kind == "job":
        return item.going
    return item.going or (item.step in {"erase", "attest"} and item.holds)


async def _specs(tx: Transaction, items: Sequence[Member]) -> list[MemberSpec]:
    owners = sorted({item.owner_id for item in items})
    jobs = await jobstore.load_all(tx, owners) if owners else {}
    leases = await leasestore.load_all(tx, owners) if len(jobs) < len(owners) else {}
    servers = {one: len(await members.of_owner(tx, one)) for one in leases}
    specs = []
    for item in items:
        job = jobs.get(item.owner_id)
        owner = job or leases[item.owner_id]
        specs.append(
            MemberSpec(
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
                command=None if job is None else job.wished.command,
                step="hold" if item.step == "done" else item.step,
            )
        )
    return specs
