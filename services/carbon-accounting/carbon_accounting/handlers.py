"""The door for facts, one function each."""

from mesh_contracts.identity import ProjectAdmitted
from mesh_contracts.metering import UsageRated
from mesh_contracts.node import EnergyMeasured, NodeJoined
from meshkit.clock import Clock
from meshkit.store import Transaction
from meshkit.telemetry import METRICS

from carbon_accounting import store
from carbon_accounting.domain.meter import between, is_newer, reading_of


async def on_project_admitted(fact: ProjectAdmitted, tx: Transaction, clock: Clock) -> None:  # noqa: ARG001
    """Know the project by its names."""
    await store.keep_project(tx, fact)


async def on_node_joined(fact: NodeJoined, tx: Transaction, clock: Clock) -> None:  # noqa: ARG001
    """Know where the node stands, and so which grid feeds it; what was held for that is tried again."""
    if fact.key != fact.node_id:
        METRICS.count("mesh_carbon_forged_facts_total")
        return
    await store.keep_node(tx, fact)
    await store.release_held(tx, fact.node_id)


async def on_energy_measured(fact: EnergyMeasured, tx: Transaction, clock: Clock) -> None:  # noqa: ARG001
    """Keep the interval since the node's last reading; it is settled a moment later."""
    if fact.key != fact.node_id:
        METRICS.count("mesh_carbon_forged_facts_total")
        return
    last = await store.load_reading(tx, fact.node_id)
    if not is_newer(last, fact):
        METRICS.count("mesh_carbon_late_readings_total")
        return
    interval = between(last, fact)
    await store.keep_reading(tx, fact.node_id, reading_of(fact))
    if interval is not None:
        await store.keep_interval(tx, interval)
    elif last is not None:
        METRICS.count("mesh_carbon_meter_gaps_total")


async def on_usage_rated(fact: UsageRated, tx: Transaction, clock: Clock) -> None:  # noqa: ARG001
    """Keep the lines; each gets its share when the interval in which it ended is settled."""
    await store.keep_requests(tx, fact.site, fact.rows)
