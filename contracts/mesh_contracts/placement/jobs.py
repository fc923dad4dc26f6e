"""Jobs: gangs that run to their end, all members or none."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from mesh_contracts.ask import Ask, Page
from mesh_contracts.fact import Fact
from mesh_contracts.placement.nouns import Reason, Residency, Resources, Workload
from mesh_contracts.placement.shapes import Isolation, Members, Names, Near, Priority
from mesh_contracts.units import (
    Count,
    JobId,
    Name,
    NodeId,
    OrganizationId,
    ProjectId,
    Sequence,
    Site,
    Text,
    Time,
    WorkloadId,
)

JobState = Literal["queued", "admitted", "running", "preempted", "succeeded", "failed", "cancelled"]


class Command(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What each member runs: an image, the words of the command, its environment. Not for secrets."""

    image: Text
    argv: Annotated[list[Text], Meta(max_length=256)] = []
    env: Annotated[dict[str, Text], Meta(max_length=256)] = {}


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One gang of ``members`` times ``resources``.

    Queued it has a ``position`` (1 is next) and, where that can be known, ``expected_start_at``.
    ``attempt`` counts its admissions, ``failures`` those that ended in a failure of its own and, of an
    ``elastic`` one, members that did. ``workloads`` are the members of the last attempt, each with the one
    that it replaced last, and what still stops; ``workloads_left`` are more of them than one answer takes: then
    those come first of whom there is something to say.
    ``generation`` rises with each change that somebody asked for.
    """

    id: JobId
    name: Name
    project_id: ProjectId
    organization_id: OrganizationId
    site: Site
    command: Command
    members: Members
    resources: Resources
    residency: Residency
    state: JobState
    generation: Sequence
    created_at: Time
    since: Time
    project: str | None = None
    near: Near = Near()
    isolation: Isolation = "none"
    assurances: Names = []
    priority: Priority = 100
    preemptible: bool = True
    min_run_s: Count = 0
    restart_loses_s: Count = 3_600
    restarts_max: Count = 3
    run_max_s: Count = 0
    slack_s: Count = 0
    elastic: bool = False
    reasons: list[Reason] = []
    position: Count | None = None
    expected_start_at: Time | None = None
    attempt: Count = 0
    failures: Count = 0
    started_at: Time | None = None
    ended_at: Time | None = None
    workloads: list[Workload] = []
    workloads_left: Count = 0


class Jobs(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs by name."""

    items: list[Job]
    next: str | None = None


class SubmitJob(Ask, frozen=True, kw_only=True, tag="placement.job.submit"):
    """Wish for a job. A name that a job of the project has, which has not ended, is a problem ``name_taken``.

    ``min_run_s`` is for how long it is not preempted once it runs; ``restart_loses_s`` how much of
    its work a restart takes from each GPU; ``restarts_max`` how often it is tried again after a
    failure of its own; ``run_max_s`` after how long it is ended (0: never). It may begin up to ``slack_s``
    later where the grid is expected to emit less then.

    Of an ``elastic`` job members that are lost are seated anew while the others go on, in the same attempt:
    how they find each other again is the workload's own. Each that failed by itself counts against
    ``restarts_max``. Where a lost one has no room, and where all are lost, it restarts whole, as others do.
    """

    permission: ClassVar[str] = "job.write"
    reply: ClassVar[Any] = Job
    changes: ClassVar[bool] = True

    name: Name
    project: Text
    command: Command
    members: Members = 1
    resources: Resources = Resources()
    residency: Residency = Residency()
    near: Near = Near()
    isolation: Isolation = "none"
    assurances: Names = msgspec.field(default_factory=list)
    priority: Priority = 100
    preemptible: bool = True
    min_run_s: Count = 0
    restart_loses_s: Count = 3_600
    restarts_max: Count = 3
    run_max_s: Count = 0
    slack_s: Count = 0
    elastic: bool = False


class ListJobs(Ask, frozen=True, kw_only=True, tag="placement.job.list"):
    """Ask for the jobs the principal sees that have not ended; ``ended``: for those that have, too."""

    permission: ClassVar[str] = "job.read"
    reply: ClassVar[Any] = Jobs

    page: Page = Page()
    ended: bool = False


class GetJob(Ask, frozen=True, kw_only=True, tag="placement.job.get"):
    """Ask for one job (its id, or the name of the newest in the principal's project)."""

    permission: ClassVar[str] = "job.read"
    reply: ClassVar[Any] = Job

    job: Text


class CancelJob(Ask, frozen=True, kw_only=True, tag="placement.job.cancel"):
    """Wish that a job ends; one that has ended stays as it is. ``generation`` as in a change."""

    permission: ClassVar[str] = "job.write"
    reply: ClassVar[Any] = Job
    changes: ClassVar[bool] = True

    job: Text
    generation: Sequence | None = None


class JobQueued(Fact, frozen=True, kw_only=True, tag="placement.job.queued/1"):
    """A job waits, for the first time or again. The key of each fact of a job is its id."""

    per_tenant: ClassVar[bool] = True

    job_id: JobId
    name: Name
    reasons: list[Reason] = msgspec.field(default_factory=list)


class JobAdmitted(Fact, frozen=True, kw_only=True, tag="placement.job.admitted/1"):
    """All members of a job have their place, on these nodes; ``attempt`` counts from 1."""

    per_tenant: ClassVar[bool] = True

    job_id: JobId
    name: Name
    attempt: Count
    node_ids: list[NodeId]
    gpu_milli: Count


class JobStarted(Fact, frozen=True, kw_only=True, tag="placement.job.started/1"):
    """All members of a job run."""

    per_tenant: ClassVar[bool] = True

    job_id: JobId
    name: Name
    attempt: Count


class Reseat(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a job, by its number, goes on elsewhere as ``successor_id``; ``reasons`` say why it had to."""

    member: Count
    workload_id: WorkloadId
    successor_id: WorkloadId
    node_id: NodeId
    to_node_id: NodeId
    reasons: list[Reason]


class JobReseated(Fact, frozen=True, kw_only=True, tag="placement.job.reseated/1"):
    """Members of an elastic job that were lost have other seats; the others go on, in the same ``attempt``."""

    per_tenant: ClassVar[bool] = True

    job_id: JobId
    name: Name
    attempt: Count
    reseats: list[Reseat]


class JobPreempted(Fact, frozen=True, kw_only=True, tag="placement.job.preempted/1"):
    """A job gives up its place, for the reasons named, and is queued again once its members have ended."""

    per_tenant: ClassVar[bool] = True

    job_id: JobId
    name: Name
    reasons: list[Reason]


class JobSucceeded(Fact, frozen=True, kw_only=True, tag="placement.job.succeeded/1"):
    """All members of a job ran to their end."""

    per_tenant: ClassVar[bool] = True

    job_id: JobId
    name: Name


class JobFailed(Fact, frozen=True, kw_only=True, tag="placement.job.failed/1"):
    """A job failed for good."""

    per_tenant: ClassVar[bool] = True

    job_id: JobId
    name: Name
    reasons: list[Reason]


class JobCancelled(Fact, frozen=True, kw_only=True, tag="placement.job.cancelled/1"):
    """Somebody wished that a job ends; what it still holds is being stopped."""

    per_tenant: ClassVar[bool] = True

    job_id: JobId
    name: Name
