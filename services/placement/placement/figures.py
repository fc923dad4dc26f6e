"""How many of what there are, for the pictures: by state, all of them, also those of which there are none."""

from typing import get_args

from mesh_contracts.placement import EndpointState, JobState, LeaseState, NodeState, WorkloadState
from meshkit.telemetry import METRICS

from placement.domain.jobs import OVER as JOB_OVER
from placement.domain.leases import OVER as LEASE_OVER

SHOWN = {
    "nodes": get_args(NodeState),
    "endpoints": [state for state in get_args(EndpointState) if state != "stopped"],
    "replicas": [state for state in get_args(WorkloadState) if state not in {"stopped", "failed"}],
    "jobs": [state for state in get_args(JobState) if state not in JOB_OVER],
    "leases": [state for state in get_args(LeaseState) if state not in LEASE_OVER],
}


def show(tally: dict[tuple[str, str], int]) -> None:
    """Set the gauges."""
    for what, states in SHOWN.items():
        for state in states:
            METRICS.set(f"mesh_placement_{what}", tally.get((what, state), 0), state=state)
