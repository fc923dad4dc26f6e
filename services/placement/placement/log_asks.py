"""The door for what workloads printed, one function each."""

from mesh_contracts.ask import Principal, Problem
from mesh_contracts.placement import Log, LogWished, ReadLog, WishLog
from meshkit.clock import Clock
from meshkit.store import Transaction

from placement import logs, memory
from placement.intents import put_intents
from placement.logs import Whose
from placement.naming import missing


async def wish_log(
    ask: WishLog, principal: Principal, tx: Transaction, clock: Clock
) -> LogWished | Problem:
    """Have a workload's node tell the end of what it printed; of one that has ended nothing is wished."""
    whose = await _whose(ask.site, ask.workload, principal, tx)
    if isinstance(whose, Problem):
        return whose
    if whose.ended:
        return LogWished(workload_id=whose.workload_id, number=0)
    await memory.hold(tx, ask.site)
    number = await logs.wish(tx, whose.workload_id, clock.now())
    put_intents(tx, whose.node_id)
    return LogWished(workload_id=whose.workload_id, number=number)


async def read_log(ask: ReadLog, principal: Principal, tx: Transaction, clock: Clock) -> Log | Problem:
    """Return what is there of a workload's log."""
    del clock
    whose = await _whose(ask.site, ask.workload, principal, tx)
    if isinstance(whose, Problem):
        return whose
    found = await logs.read(tx, whose.workload_id) or {}
    return Log(
        workload_id=whose.workload_id,
        node_id=whose.node_id,
        node=whose.node,
        ended=whose.ended,
        **found,
    )


async def _whose(site: str, workload: str, principal: Principal, tx: Transaction) -> Whose | Problem:
    found = await logs.find(tx, workload)
    if found is None or found.site != site or not principal.sees(found.project):
        return missing(
            "workload", workload, "GET /api/v1/jobs/NAME and /api/v1/endpoints/NAME list them"
        )
    return found
