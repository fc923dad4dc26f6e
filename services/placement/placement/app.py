"""Assembled here, and nowhere else."""

from pathlib import Path

from mesh_contracts.identity import NodeEnrolled, ProjectAdmitted
from mesh_contracts.inference import DemandChanged
from mesh_contracts.node import (
    HealthChanged,
    NodeJoined,
    WorkloadFailed,
    WorkloadReady,
    WorkloadStarted,
    WorkloadStopped,
)
from mesh_contracts.placement import (
    ChangeEndpoint,
    CheckNode,
    CordonNode,
    CreateEndpoint,
    DeleteEndpoint,
    ExplainPlacement,
    GetEndpoint,
    GetNode,
    ListEndpoints,
    ListNodes,
    ReturnNode,
)
from meshkit.clock import Clock, SystemClock
from meshkit.config import StoreSettings
from meshkit.service import Service

from placement import asks, handlers, memory, remembering, settle
from placement.node_asks import NodeAsks
from placement.pulse import Pulse

MIGRATIONS = Path(__file__).parent / "migrations"


def assemble(settings: StoreSettings, clock: Clock | None = None) -> Service:
    """Wire the doors; tests call this with their own settings and clock."""
    clock = clock or SystemClock()
    service = Service("placement", settings, clock=clock, migrations=MIGRATIONS)
    service.reads(ProjectAdmitted, handlers.on_project_admitted)
    service.reads(NodeEnrolled, handlers.on_node_enrolled)
    service.reads(NodeJoined, handlers.on_node_joined)
    service.reads(HealthChanged, handlers.on_health_changed)
    service.reads(WorkloadStarted, handlers.on_workload_started)
    service.reads(WorkloadReady, handlers.on_workload_ready)
    service.reads(WorkloadStopped, handlers.on_workload_stopped)
    service.reads(WorkloadFailed, handlers.on_workload_failed)
    service.reads(DemandChanged, handlers.on_demand_changed)

    service.answers(CreateEndpoint, asks.create_endpoint)
    service.answers(ListEndpoints, asks.list_endpoints)
    service.answers(GetEndpoint, asks.get_endpoint)
    service.answers(ChangeEndpoint, asks.change_endpoint)
    service.answers(DeleteEndpoint, asks.delete_endpoint)
    service.answers(ExplainPlacement, asks.explain_placement)

    pulse = Pulse(settings.mesh_site, clock, lambda: service.store, lambda: service.bus.whole_since)
    nodes = NodeAsks(pulse)
    service.answers(ListNodes, nodes.list_nodes)
    service.answers(GetNode, nodes.get_node)
    service.answers(CordonNode, nodes.cordon_node)
    service.answers(ReturnNode, nodes.return_node)
    service.answers(CheckNode, nodes.check_node)

    service.writes("intents", settle.all_intents)
    service.writes("routes", settle.all_routes)
    service.hears("agent.heartbeat", pulse.on_heartbeat)
    site = settings.mesh_site
    service.leads(
        lambda: remembering.follow(lambda: service.store, site),
        lambda: remembering.prepare(lambda: service.store, site),
    )
    service.runs("pulse", pulse.run)
    service.runs("memory", lambda: remembering.keep(lambda: service.store, site))
    service.needs("memory", lambda: memory.of(service.store.beside).trouble())
    return service
