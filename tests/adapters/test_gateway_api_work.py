"""Jobs, leases, quota, caps and what would be under ``/api/v1``: each path is one ask of placement."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mesh_contracts import placement
from mesh_contracts.placement import (
    AddNodes,
    CapDomain,
    Command,
    LoseDomain,
    Near,
    Residency,
    Resources,
)
from mesh_contracts.units import DEFAULT_SITE
from meshkit.testing import NOW, test_id

from tests.adapters.gateways import ORGANIZATION, PROJECT, Town
from tests.adapters.owners import Owners, admin_of, said

pytestmark = pytest.mark.slow

JOB, LEASE = test_id("job", "train"), test_id("lease", "metal")
COMMAND = {"image": "trainer:1", "argv": ["train"]}


@pytest.fixture
async def owners(here: Town) -> AsyncIterator[Owners]:
    made = Owners(here)
    yield made
    await made.stop()


def job(**fields: Any) -> placement.Job:
    return placement.Job(
        id=JOB,
        name="train",
        project_id=PROJECT,
        organization_id=ORGANIZATION,
        site=DEFAULT_SITE,
        command=Command(image="trainer:1"),
        members=1,
        resources=Resources(),
        residency=Residency(),
        state="queued",
        generation=3,
        created_at=NOW,
        since=NOW,
        position=2,
        **fields,
    )


def lease() -> placement.Lease:
    return placement.Lease(
        id=LEASE,
        name="metal",
        project_id=PROJECT,
        organization_id=ORGANIZATION,
        site=DEFAULT_SITE,
        nodes=1,
        domains=0,
        residency=Residency(),
        state="reserved",
        generation=3,
        created_at=NOW,
        since=NOW,
    )


async def test_a_job_is_submitted_shown_listed_and_cancelled(here: Town, owners: Owners) -> None:
    kinds = (placement.SubmitJob, placement.GetJob, placement.CancelJob)
    listed = placement.Jobs(items=[job()], next="more")
    await owners.answer("placement", {**dict.fromkeys(kinds, job()), placement.ListJobs: listed})
    wish = {
        "name": "train",
        "command": COMMAND,
        "members": 16,
        "resources": {"gpus": 8, "cpu_milli": 32_000},
        "near": {"level": "leaf", "segment": 4},
        "isolation": "rack",
        "assurances": ["hds"],
        "priority": 200,
        "run_max_s": 60,
    }
    async with here.post("/api/v1/jobs", wish, **{"idempotency-key": "once"}) as answer:
        assert (answer.status, answer.headers["location"]) == (202, f"/api/v1/jobs/{JOB}")
        assert answer.headers["etag"] == '"3"'
        assert json.loads(await answer.read())["position"] == 2
    assert (await said(here.get("/api/v1/jobs/train"), 200))["state"] == "queued"
    assert (await said(here.get("/api/v1/jobs?ended=true&limit=7"), 200))["next"] == "more"
    headers = {"authorization": f"Bearer {here.key}", "if-match": '"3"'}
    await said(here.http.delete(f"{here.base}/api/v1/jobs/train", headers=headers), 202)
    submitted, got, asked, cancelled = owners.asked
    assert (submitted.project, submitted.idempotency_key) == (PROJECT, "once")
    assert submitted.resources == Resources(gpus=8, cpu_milli=32_000)
    assert submitted.near == Near(level="leaf", segment=4)
    shape = (submitted.members, submitted.isolation, submitted.assurances, submitted.priority)
    assert shape == (16, "rack", ["hds"], 200)
    assert (submitted.preemptible, submitted.run_max_s) == (True, 60)
    assert (got.job, asked.ended, asked.page.limit) == ("train", True, 7)
    assert (cancelled.job, cancelled.generation) == ("train", 3)


async def test_a_lease_is_requested_shown_listed_and_released(here: Town, owners: Owners) -> None:
    kinds = (placement.RequestLease, placement.GetLease, placement.ReleaseLease)
    listed = placement.Leases(items=[lease()])
    await owners.answer("placement", {**dict.fromkeys(kinds, lease()), placement.ListLeases: listed})
    wish = {"name": "metal", "domains": 2, "gpu_model": "GB200", "ends_at": "2027-01-01T00:00:00Z"}
    made = await said(here.post("/api/v1/leases", wish), 202)
    assert (made["id"], made["state"]) == (LEASE, "reserved")
    await said(here.get("/api/v1/leases/metal"), 200)
    assert len((await said(here.get("/api/v1/leases"), 200))["items"]) == 1
    headers = {"authorization": f"Bearer {here.key}"}
    await said(here.http.delete(f"{here.base}/api/v1/leases/metal", headers=headers), 202)
    requested, _, listed_, released = owners.asked
    assert (requested.domains, requested.nodes, requested.gpu_model) == (2, 0, "GB200")
    assert (requested.project, requested.ends_at.year, listed_.ended) == (PROJECT, 2027, False)
    assert (released.lease, released.generation) == ("metal", None)


async def test_quota_and_caps_are_set_and_listed(here: Town, owners: Owners) -> None:
    quota = placement.Quota(
        id="quota_1",
        scope_kind="project",
        scope_id=PROJECT,
        gpus=8,
        weight=100,
        gpus_max=None,
        used_gpu_milli=500,
        generation=1,
    )
    cap = placement.PowerCap(
        id="cap_1",
        site=DEFAULT_SITE,
        level="rack",
        domain="r1",
        watts=None,
        planned_w=90,
        generation=2,
        since=NOW,
    )
    answers = {
        placement.SetQuota: quota,
        placement.ListQuotas: placement.Quotas(items=[quota]),
        placement.SetCap: cap,
        placement.ListCaps: placement.PowerCaps(items=[cap]),
        placement.ListSites: placement.Sites(items=[placement.Site(id=DEFAULT_SITE, gpus=9)]),
        placement.GetSite: placement.Site(id=DEFAULT_SITE),
    }
    await owners.answer("placement", answers)
    key = await admin_of(here)
    body = {"scope": {"kind": "project", "id": "acme/demo"}, "gpus": 8, "nvlink_domains": {"GB200": 1}}
    made = await said(here.post("/api/v1/quotas", body, key=key), 201)
    assert (made["gpus"], made["used_gpu_milli"]) == (8, 500)
    caps = f"/api/v1/sites/{DEFAULT_SITE}/caps"
    lifted = {"level": "rack", "domain": "r1", "watts": None}
    assert (await said(here.post(caps, lifted, key=key), 200))["planned_w"] == 90
    for path in ("/api/v1/quotas", caps, "/api/v1/sites"):
        assert len((await said(here.get(path, key=key), 200))["items"]) == 1
    assert (await said(here.get(f"/api/v1/sites/{DEFAULT_SITE}"), 200)) == {"id": DEFAULT_SITE}
    set_, capped = owners.asked[:2]
    assert (set_.scope_kind, set_.scope, set_.nvlink_domains) == ("project", "acme/demo", {"GB200": 1})
    assert (capped.level, capped.domain, capped.watts) == ("rack", "r1", None)
    for path in ("/api/v1/sites/elsewhere", "/api/v1/sites/elsewhere/caps"):
        assert (await said(here.get(path, key=key), 404))["code"] == "site_not_found"
    denied = await said(here.post(caps, lifted), 403)
    assert "cap.write" in denied["detail"]
    assert (await said(here.post("/api/v1/quotas", body), 403))["code"] == "forbidden"


async def test_a_node_is_drained_and_a_placement_explained_with_what_might_change(
    here: Town, owners: Owners
) -> None:
    node = placement.Node(
        id=test_id("node"),
        name="n1",
        site=DEFAULT_SITE,
        state="draining",
        rehearsal=True,
        devices=[],
        gpus=0,
        gpu_milli_free=0,
        memory_mib=1,
        memory_mib_free=1,
        workloads=0,
        generation=2,
        since=NOW,
    )
    told = placement.Explanation(
        fits=True, survivors=[], displaced=[placement.Displaced(id=JOB, kind="job", fits=False)]
    )
    await owners.answer("placement", {placement.DrainNode: node, placement.ExplainPlacement: told})
    key = await admin_of(here)
    body = {"reason": "fan", "grace_s": 60}
    assert (await said(here.post("/api/v1/nodes/n1:drain", body, key=key), 202))["state"] == "draining"
    changes = [
        {"change": "lose", "level": "rack", "domain": "r1"},
        {"change": "cap", "level": "pdu", "domain": "p1", "watts": 9},
        {"change": "add", "nodes": 500, "like": "n1"},
    ]
    shape = {"members": 72, "near": {"level": "rack"}, "isolation": "nvlink", "changes": changes}
    found = await said(here.post("/api/v1/placements:explain", shape, key=key), 200)
    assert found["displaced"] == [{"id": JOB, "kind": "job", "fits": False}]
    drained, explained = owners.asked
    assert (drained.node, drained.reason, drained.grace_s) == ("n1", "fan", 60)
    assert explained.supposed == [
        LoseDomain(level="rack", domain="r1"),
        CapDomain(level="pdu", domain="p1", watts=9),
        AddNodes(nodes=500, like="n1"),
    ]
    assert (explained.members, explained.near.level, explained.isolation) == (72, "rack", "nvlink")


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("jobs", {"name": "a", "command": COMMAND, "gpus": 8}, "unknown_field", "gpus"),
        ("jobs", {"name": "a", "command": {**COMMAND, "user": 0}}, "unknown_field", "command.user"),
        ("jobs", {"name": "a", "command": COMMAND, "members": 0}, "invalid_field", "members"),
        (
            "jobs",
            {"name": "a", "command": COMMAND, "near": {"levle": 1}},
            "unknown_field",
            "near.levle",
        ),
        ("jobs", {"name": "a", "command": COMMAND, "isolation": "hall"}, "invalid_field", "isolation"),
        ("jobs", {"name": "a"}, "invalid_field", "command"),
        ("leases", {"name": "a", "nodes": 5_000}, "invalid_field", "nodes"),
        ("leases", {"name": "a", "gpus": 1}, "unknown_field", "gpus"),
        ("leases", {"name": "a", "ends_at": "2027-01-01"}, "invalid_field", "ends_at"),
        ("quotas", {"gpus": 1}, "invalid_field", "scope"),
        ("quotas", {"scope": {"kind": "key", "id": "k"}}, "invalid_field", "scope.kind"),
        (f"sites/{DEFAULT_SITE}/caps", {"level": "rack", "domain": "r1"}, "invalid_field", "watts"),
        (
            f"sites/{DEFAULT_SITE}/caps",
            {"level": "shelf", "domain": "r1", "watts": 1},
            "invalid_field",
            "level",
        ),
        ("placements:explain", {"member": 2}, "unknown_field", "member"),
        ("placements:explain", {"changes": [{"change": "burn"}]}, "invalid_field", "changes[0].change"),
        (
            "placements:explain",
            {"changes": [{"change": "lose", "level": "rack", "domain": "r1", "when": 1}]},
            "unknown_field",
            "changes[0].when",
        ),
        (
            "placements:explain",
            {"changes": [{"change": "add", "nodes": 0, "like": "n"}]},
            "invalid_field",
            "changes[0].nodes",
        ),
    ],
)
async def test_what_is_unknown_or_out_of_bounds_is_named_and_nobody_is_asked(
    here: Town, owners: Owners, path: str, body: dict[str, Any], code: str, param: str
) -> None:
    kinds = (placement.SubmitJob, placement.RequestLease, placement.SetQuota, placement.SetCap)
    await owners.answer("placement", dict.fromkeys((*kinds, placement.ExplainPlacement), job()))
    key = await admin_of(here)
    project = {"project": "acme/demo"} if path in {"jobs", "leases"} else {}
    found = await said(here.post(f"/api/v1/{path}", {**project, **body}, key=key), 422)
    assert (found["code"], found["param"]) == (code, param)
    assert owners.asked == []


async def test_an_admins_key_names_the_project_of_a_job_and_of_a_lease(
    here: Town, owners: Owners
) -> None:
    await owners.answer("placement", {placement.SubmitJob: job(), placement.RequestLease: lease()})
    key = await admin_of(here)
    for path, body in (
        ("jobs", {"name": "a", "command": COMMAND}),
        ("leases", {"name": "a", "nodes": 1}),
    ):
        found = await said(here.post(f"/api/v1/{path}", body, key=key), 422)
        assert (found["code"], found["param"]) == ("missing_field", "project")
    assert owners.asked == []
