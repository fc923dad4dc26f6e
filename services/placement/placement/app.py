"""Assembled here, and nowhere else."""

from pathlib import Path

from mesh_contracts.identity import NodeEnrolled, ProjectAdmitted
from mesh_contracts.inference import DemandChanged
from mesh_contracts.node import (
    ErasureRecorded,
    HealthChanged,
    NodeJoined,
    WorkloadFailed,
    WorkloadReady,
    WorkloadStarted,
    WorkloadStopped,
)
from mesh_contracts.placement import (
    CancelJob,
    CancelMaintenance,
    ChangeEndpoint,
    CheckNode,
    CordonNode,
    CreateEndpoint,
    DeleteEndpoint,
    DrainNode,
    ExplainPlacement,
    GetEndpoint,
    GetJob,
    GetLease,
    GetNode,
    GetSite,
    ListCaps,
    ListEndpoints,
    ListJobs,
    ListLeases,
    ListMaintenance,
    ListMoves,
    ListNodes,
    ListQuotas,
    ListSites,
    MakeMoves,
    PlanMaintenance,
    PlanMoves,
    ReadLog,
    RearmBreaker,
    ReleaseLease,
    RequestLease,
    ReturnNode,
    SetCap,
    SetQuota,
    SubmitJob,
    WishLog,
)
from meshkit.clock import Clock, SystemClock
from meshkit.config import StoreSettings
from meshkit.service import Service

from placement import (
    asks,
    breaking,
    explaining,
    handlers,
    intents,
    job_asks,
    lease_asks,
    log_asks,
    maintenance_asks,
    memory,
    move_asks,
    remembering,
    settle,
    site_asks,
    submitting,
)
from placement.node_asks import NodeAsks
from placement.pulse import Pulse
from placement.weighing import Weighing

MIGRATIONS = Path(__file__).parent / "migrations"


class PlacementSettings(StoreSettings, frozen=True, kw_only=True):
    """Placement's settings: what a watt more costs in a score, in thousandths of a milli of fragments (0: nothing)."""

    placement_watt_weight: int = 0


def assemble(settings: PlacementSettings, clock: Clock | None = None) -> Service:
    """Wire the doors; tests call this with their own settings and clock."""
    clock = clock or SystemClock()
    service = Service("placement", settings, clock=clock, migrations=MIGRATIONS)
    service.decides_alone()
    _reads(service)
    service.answers(CreateEndpoint, asks.create_endpoint)
    service.answers(ListEndpoints, asks.list_endpoints)
    service.answers(GetEndpoint, asks.get_endpoint)
    service.answers(ChangeEndpoint, asks.change_endpoint)
    service.answers(DeleteEndpoint, asks.delete_endpoint)
    service.answers(ExplainPlacement, explaining.explain_placement)

    service.answers_together(SubmitJob, submitting.submit_jobs)
    service.answers(ListJobs, job_asks.list_jobs)
    service.answers(GetJob, job_asks.get_job)
    service.answers_together(CancelJob, job_asks.cancel_jobs)
    service.answers(WishLog, log_asks.wish_log)
    service.answers(ReadLog, log_asks.read_log)
    service.answers(RequestLease, lease_asks.request_lease)
    service.answers(ListLeases, lease_asks.list_leases)
    service.answers(GetLease, lease_asks.get_lease)
    service.answers(ReleaseLease, lease_asks.release_lease)
    _answers_of_the_site(service)

    site = settings.mesh_site
    weight = settings.placement_watt_weight
    weighing = Weighing(site, clock, service.watches("signals"), weight)
    pulse = Pulse(site, clock, lambda: service.store, lambda: service.bus.whole_since, weighing)
    nodes = NodeAsks(pulse.beats)
    service.answers(ListNodes, nodes.list_nodes)
    service.answers(GetNode, nodes.get_node)
    service.answers(CordonNode, nodes.cordon_node)
    service.answers(DrainNode, nodes.drain_node)
    service.answers(ReturnNode, nodes.return_node)
    service.answers(CheckNode, nodes.check_node)

    service.writes("intents", intents.all_intents)
    service.writes("routes", settle.all_routes)
    service.hears("agent.heartbeat", pulse.beats.on_heartbeat)
    service.hears("agent.power", weighing.on_power)
    service.hears("agent.log", pulse.tails.on_log)
    service.leads(
        lambda: remembering.follow(lambda: service.store, site),
        lambda: remembering.prepare(lambda: service.store, site),
    )
    service.runs("pulse", pulse.run)
    service.runs("memory", lambda: remembering.keep(lambda: service.store, site))
    service.needs("memory", lambda: memory.of(service.store.beside).trouble())
    return service


def _reads(service: Service) -> None:
    service.reads(ProjectAdmitted, handlers.on_project_admitted)
    service.reads(NodeEnrolled, handlers.on_node_enrolled)
    service.reads(NodeJoined, handlers.on_node_joined)
    service.reads(HealthChanged, handlers.on_health_changed)
    service.reads(WorkloadStarted, handlers.on_workload_started)
    service.reads(WorkloadReady, handlers.on_workload_ready)
    service.reads(WorkloadStopped, handlers.on_workload_stopped)
    service.reads(WorkloadFailed, handlers.on_workload_failed)
    service.reads(ErasureRecorded, handlers.on_erasure_recorded)
    service.reads(DemandChanged, handlers.on_demand_changed)


def _answers_of_the_site(service: Service) -> None:
    service.answers(ListSites, site_asks.list_sites)
    service.answers(GetSite, site_asks.get_site)
    service.answers(SetCap, site_asks.set_cap)
    service.answers(RearmBreaker, breaking.rearm_breaker)
    service.answers(PlanMoves, explaining.plan_moves)
    service.answers(MakeMoves, move_asks.make_moves)
    service.answers(ListMoves, move_asks.list_moves)
    service.answers(ListCaps, site_asks.list_caps)
    service.answers(PlanMaintenance, maintenance_asks.plan_maintenance)
    service.answers(ListMaintenance, maintenance_asks.list_maintenance)
    service.answers(CancelMaintenance, maintenance_asks.cancel_maintenance)
    service.answers(SetQuota, site_asks.set_quota)
    service.answers(ListQuotas, site_asks.list_quotas)
