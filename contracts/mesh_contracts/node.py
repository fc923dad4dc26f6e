"""What a node-agent tells and shows: its devices, their health, its workloads, its energy."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mesh_contracts.fact import Fact
from mesh_contracts.units import (
    Count,
    DeviceId,
    EnergyUj,
    Name,
    NodeId,
    Sequence,
    Text,
    Time,
    WorkloadId,
)

Verdict = Literal["pass", "warn", "fail", "inconclusive"]
Quality = Literal["measured", "estimated"]

Level = Literal["nvlink", "rack", "leaf", "rail", "pdu", "row", "hall"]
"""Parts of a site that a server stands in: of the fabric (NVLink domain, leaf, rail), of power and space."""


LOG_CHARS_MAX = 32_768
"""Of a workload's log: its end."""


class Device(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One accelerator. ``rehearsal`` devices are doubles, and say so wherever they appear.

    ``mig``: it is in MIG mode, and runs instances only.
    """

    device_id: DeviceId
    index: Count
    model: str
    memory_mib: Count
    rehearsal: bool
    mig: bool = False


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One health check of one device. ``evidence`` names the broken part (``row``, ``bits`` …)."""

    name: str
    device_id: DeviceId
    verdict: Verdict
    backend: Literal["numpy", "cupy"]
    rehearsal: bool
    took_ms: Count
    detail: Text
    action: str | None = None
    evidence: dict[str, int | float | str | list[int]] = {}


class NodeJoined(Fact, frozen=True, kw_only=True, tag="agent.node.joined/1"):
    """An agent started on its server. Its key, as of every fact of an agent, is the node's id.

    ``place`` names the part of the site that it stands in, by ``Level`` (a level that a reader does
    not know is left alone); ``assurances`` what the place is certified for. ``idle_w`` is what the
    server draws when it does nothing, ``gpu_w`` what each GPU at work adds (0: not known).
    """

    node_id: NodeId
    name: Name
    jurisdiction: str
    devices: list[Device]
    memory_mib: Count
    cpus: Count
    address: str
    agent_version: str
    place: dict[Name, Name] = msgspec.field(default_factory=dict)
    assurances: list[Name] = msgspec.field(default_factory=list)
    idle_w: Count = 0
    gpu_w: Count = 0


class HealthChanged(Fact, frozen=True, kw_only=True, tag="agent.health.changed/1"):
    """The verdict of a health check; ``check`` is the wish it answers (0 for the first)."""

    node_id: NodeId
    verdict: Verdict
    level: Literal["quick", "standard", "deep"]
    check: Sequence
    checks: list[Check]


class WorkloadStarted(Fact, frozen=True, kw_only=True, tag="agent.workload.started/1"):
    """The process of an engine, which does not answer yet, or of a member of a job runs; a leased server is on its way."""

    node_id: NodeId
    workload_id: WorkloadId


class WorkloadReady(Fact, frozen=True, kw_only=True, tag="agent.workload.ready/1"):
    """The engine answers at ``address`` (``host:port``); a leased server is handed over, and reached there.

    ``console`` is a URL, where the server has one.
    """

    node_id: NodeId
    workload_id: WorkloadId
    address: str
    scheme: Literal["http", "https"] = "http"
    console: str | None = None


class WorkloadStopped(Fact, frozen=True, kw_only=True, tag="agent.workload.stopped/1"):
    """It was stopped as wished (a leased server: taken back); or (``exit_code`` 0) the member of a job ran to its end."""

    node_id: NodeId
    workload_id: WorkloadId
    exit_code: int | None = None


class WorkloadFailed(Fact, frozen=True, kw_only=True, tag="agent.workload.failed/1"):
    """The engine, or the member of a job, ended by itself, or never answered.

    ``interrupted``: through no fault of its own, as its server or what runs it there went away.
    """

    node_id: NodeId
    workload_id: WorkloadId
    reason: Text
    exit_code: int | None = None
    interrupted: bool = False


class ErasureRecorded(Fact, frozen=True, kw_only=True, tag="agent.erasure.recorded/1"):
    """What a lease left on a server is gone (``erased``), or the server is shown to be as it should (``attested``).

    ``method`` says how (a power cycle, an overwrite, a signed measurement); ``evidence`` is what shows it.
    ``quality``: what was only rehearsed, on a server that is not there, shows nothing of a real one.
    """

    node_id: NodeId
    workload_id: WorkloadId
    step: Literal["erased", "attested"]
    verdict: Verdict
    method: Text
    evidence: dict[str, int | float | str | list[int]] = msgspec.field(default_factory=dict)
    quality: Literal["measured", "rehearsed"] = "rehearsed"


class DeviceEnergy(msgspec.Struct, frozen=True, kw_only=True):
    """A device's cumulative energy counter."""

    device_id: DeviceId
    counter_uj: EnergyUj


class EnergyMeasured(Fact, frozen=True, kw_only=True, tag="agent.energy.measured/1"):
    """A node's cumulative energy at ``measured_at``, and the part it would have taken idle.

    Counters start at zero with each ``epoch`` (a reset makes a new one); the energy of an
    interval is the difference of two facts of one epoch. ``starting_counter_uj`` is the part above
    idle that went into engines before their first answer: loading a model is no request's energy
    (null: not told apart). ``full_power_w`` is the most that the node could draw (null: not known).
    """

    node_id: NodeId
    epoch: Sequence
    measured_at: Time
    counter_uj: EnergyUj
    idle_counter_uj: EnergyUj
    quality: Quality
    source: str
    devices: list[DeviceEnergy]
    starting_counter_uj: EnergyUj | None = None
    full_power_w: Count | None = None


class WorkloadStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One workload in a heartbeat."""

    workload_id: WorkloadId
    state: Literal["starting", "ready", "stopping", "stopped", "failed"]
    address: str | None = None


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """Sample ``sample.agent.heartbeat.<site>.<node>``, every 2 s: the node lives, and runs this."""

    node_id: NodeId
    at: Time
    sequence: Sequence
    check: Sequence
    workloads: list[WorkloadStatus]


class LogTail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sample ``sample.agent.log.<site>.<node>``: the end of what a workload printed, as placement wished for it.

    ``number`` is the wish that it answers; 0: nobody wished, the workload has ended. ``cut``: there was more before.
    """

    node_id: NodeId
    at: Time
    workload_id: WorkloadId
    number: Count
    text: Annotated[str, Meta(max_length=LOG_CHARS_MAX)]
    cut: bool = False


class Power(msgspec.Struct, frozen=True, kw_only=True):
    """Sample ``sample.agent.power.<site>.<node>``, 1 Hz: what the node draws now."""

    node_id: NodeId
    at: Time
    power_w: Count
    quality: Quality
    devices_w: list[Count]
