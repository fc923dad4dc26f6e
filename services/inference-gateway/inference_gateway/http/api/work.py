"""Jobs, leases and quota: placement's, as projects and operators ask for them."""

from typing import Annotated

from litestar import Controller, Response, delete, get, post
from litestar.params import FromPath, JSONBody, QueryParameter
from mesh_contracts import placement

from inference_gateway.http.api.asking import (
    AnyRequest,
    Asking,
    Cursor,
    Limit,
    generation_of,
    page,
    project_of,
)
from inference_gateway.http.api.fleet import shown
from inference_gateway.http.api.work_bodies import NewJob, NewLease, NewQuota

Ended = Annotated[bool, QueryParameter(description="Those that have ended, too.")]


class Jobs(Controller):
    """Gangs that run to their end, all members or none."""

    path = "/jobs"
    tags = ["placement"]  # noqa: RUF012 - the framework's way

    @post(status_code=202)
    async def submit(
        self, request: AnyRequest, asker: Asking, data: JSONBody[NewJob]
    ) -> Response[placement.Job]:
        """Submit a job; it begins once all its members have room at the same time."""
        made: placement.Job = await asker(
            request,
            placement.SubmitJob,
            name=data.name,
            project=project_of(request, asker, data.project),
            command=data.command,
            members=data.members,
            resources=data.resources,
            residency=data.residency,
            near=data.near,
            isolation=data.isolation,
            assurances=data.assurances,
            priority=data.priority,
            preemptible=data.preemptible,
            min_run_s=data.min_run_s,
            restart_loses_s=data.restart_loses_s,
            restarts_max=data.restarts_max,
            run_max_s=data.run_max_s,
            slack_s=data.slack_s,
            elastic=data.elastic,
        )
        answer = shown(made, 202)
        answer.headers["location"] = f"/api/v1/jobs/{made.id}"
        return answer

    @get()
    async def list(
        self,
        request: AnyRequest,
        asker: Asking,
        limit: Limit = 100,
        cursor: Cursor = None,
        ended: Ended = False,
    ) -> placement.Jobs:
        """List the jobs the caller sees, with why each waits."""
        found: placement.Jobs = await asker(
            request, placement.ListJobs, page=page(limit, cursor), ended=ended
        )
        return found

    @get("/{job:str}")
    async def one(
        self, request: AnyRequest, asker: Asking, job: FromPath[str]
    ) -> Response[placement.Job]:
        """Show one job (its id, or its name in the caller's project) with its members."""
        return shown(await asker(request, placement.GetJob, job=job))

    @delete("/{job:str}", status_code=202)
    async def cancel(
        self, request: AnyRequest, asker: Asking, job: FromPath[str]
    ) -> Response[placement.Job]:
        """Cancel a job; `If-Match` is heeded where it is sent."""
        generation = generation_of(request)
        return shown(await asker(request, placement.CancelJob, job=job, generation=generation), 202)


class Leases(Controller):
    """Whole servers, or whole NVLink domains, given to one tenant and wiped after it."""

    path = "/leases"
    tags = ["placement"]  # noqa: RUF012 - the framework's way

    @post(status_code=202)
    async def request(
        self, request: AnyRequest, asker: Asking, data: JSONBody[NewLease]
    ) -> Response[placement.Lease]:
        """Request a lease; it is refused where there is no room within `wait_s`."""
        made: placement.Lease = await asker(
            request,
            placement.RequestLease,
            name=data.name,
            project=project_of(request, asker, data.project),
            nodes=data.nodes,
            domains=data.domains,
            gpu_model=data.gpu_model,
            gpus_per_node=data.gpus_per_node,
            residency=data.residency,
            near=data.near,
            assurances=data.assurances,
            priority=data.priority,
            wait_s=data.wait_s,
            starts_at=data.starts_at,
            ends_at=data.ends_at,
        )
        answer = shown(made, 202)
        answer.headers["location"] = f"/api/v1/leases/{made.id}"
        return answer

    @get()
    async def list(
        self,
        request: AnyRequest,
        asker: Asking,
        limit: Limit = 100,
        cursor: Cursor = None,
        ended: Ended = False,
    ) -> placement.Leases:
        """List the leases the caller sees."""
        found: placement.Leases = await asker(
            request, placement.ListLeases, page=page(limit, cursor), ended=ended
        )
        return found

    @get("/{lease:str}")
    async def one(
        self, request: AnyRequest, asker: Asking, lease: FromPath[str]
    ) -> Response[placement.Lease]:
        """Show one lease (its id, or its name in the caller's project) with its servers."""
        return shown(await asker(request, placement.GetLease, lease=lease))

    @delete("/{lease:str}", status_code=202)
    async def release(
        self, request: AnyRequest, asker: Asking, lease: FromPath[str]
    ) -> Response[placement.Lease]:
        """Release a lease: its servers are erased and attested; `If-Match` is heeded where it is sent."""
        generation = generation_of(request)
        gone = await asker(request, placement.ReleaseLease, lease=lease, generation=generation)
        return shown(gone, 202)


class Quotas(Controller):
    """What organizations and projects are promised of the site's GPUs."""

    path = "/quotas"
    tags = ["placement"]  # noqa: RUF012 - the framework's way

    @post(status_code=200)
    async def set(
        self, request: AnyRequest, asker: Asking, data: JSONBody[NewQuota]
    ) -> Response[placement.Quota]:
        """Set a scope's quota: 201 where it had none, else 200; `If-Match` is heeded where it is sent."""
        made: placement.Quota = await asker(
            request,
            placement.SetQuota,
            scope_kind=data.scope.kind,
            scope=data.scope.id,
            gpus=data.gpus,
            nvlink_domains=data.nvlink_domains,
            weight=data.weight,
            gpus_max=data.gpus_max,
            generation=generation_of(request),
        )
        return shown(made, 201 if made.generation == 1 else 200)

    @get()
    async def list(
        self, request: AnyRequest, asker: Asking, limit: Limit = 100, cursor: Cursor = None
    ) -> placement.Quotas:
        """List the quotas of what the caller sees, with what is in use."""
        found: placement.Quotas = await asker(request, placement.ListQuotas, page=page(limit, cursor))
        return found
