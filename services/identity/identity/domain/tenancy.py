"""Organizations and projects: which one a text means, and how a new one comes to be."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from mesh_contracts.ask import Principal, Problem
from mesh_contracts.fact import born_of
from mesh_contracts.identity import (
    CreateOrganization,
    CreateProject,
    Organization,
    Project,
    ProjectAdmitted,
)
from mesh_contracts.units import derived_id


class Admission(msgspec.Struct, frozen=True):
    """A project to be kept, and the fact that says so."""

    project: Project
    fact: ProjectAdmitted


def found(ask: CreateOrganization, now: datetime) -> Organization:
    """Return the organization that is wished for; whether its name is free is the table's to say."""
    return Organization(
        id=derived_id("org", ask.asked_at, ask.ask_id), name=ask.name, created_at=now, generation=1
    )


def admit(
    ask: CreateProject, organization: Organization, now: datetime, *, actor: str | None = None
) -> Admission:
    """Return the project that is wished for in ``organization``, and the fact that tells it."""
    project = Project(
        id=derived_id("project", ask.asked_at, ask.ask_id),
        name=ask.name,
        organization=organization.name,
        organization_id=organization.id,
        created_at=now,
        generation=1,
    )
    scope: dict[str, Any] = {"organization": organization.id, "project": project.id, "actor": actor}
    envelope = born_of(ask, now, ProjectAdmitted, key=project.id, **scope)
    fact = ProjectAdmitted(**envelope, name=ask.name, organization_name=organization.name)
    return Admission(project, fact)


def name_taken(noun: str, name: str) -> Problem:
    """Return the problem of a name that somebody else bears."""
    return Problem(
        title=f"The {noun} exists already",
        status=409,
        code="name_taken",
        detail=f"there is a {noun} {name!r} already: choose another name, or use that one",
        param="name",
    )


def organization_not_found(wanted: str) -> Problem:
    """Return the problem of an organization that nobody knows."""
    return Problem(
        title="No such organization",
        status=404,
        code="organization_not_found",
        detail=f"no organization has the name or id {wanted!r}: list them, or create it first",
        param="organization",
    )


def choose(wanted: str, candidates: Sequence[Project], principal: Principal) -> Project | Problem:
    """Return the project that ``wanted`` means to ``principal``: an id, a name, or ``organization/name``.

    ``candidates`` are all projects that bear that id or name. Only those the principal sees count; a
    bare name means the one in the principal's own organization before any other.
    """
    seen = [project for project in candidates if principal.sees(project.id)]
    own = [project for project in seen if project.organization_id == principal.organization]
    among = own or seen
    if len(among) == 1:
        return among[0]
    if not among:
        return Problem(
            title="No such project",
            status=404,
            code="project_not_found",
            detail=f"no project that you may use is called {wanted!r}: list the projects, or create it",
            param="project",
        )
    return Problem(
        title="The name means several projects",
        status=409,
        code="ambiguous_project",
        detail=f"several organizations have a project {wanted!r}: give its id, or organization/name",
        param="project",
        reasons=[
            {"code": "candidate", "project": f"{one.organization}/{one.name}", "project_id": one.id}
            for one in among[:CANDIDATES_SHOWN_MAX]
        ],
    )


CANDIDATES_SHOWN_MAX = 20
"""Projects listed in the problem ``ambiguous_project``."""
