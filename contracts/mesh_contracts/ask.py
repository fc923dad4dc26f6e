"""What every ask carries: a deadline, a principal, a permission, and a typed answer or problem."""

from typing import Any, ClassVar

import msgspec

from mesh_contracts.fact import tag_of
from mesh_contracts.units import (
    Id,
    Name,
    OrganizationId,
    ProjectId,
    Sequence,
    Site,
    Text,
    Time,
    TraceParent,
)

EVERYBODY = "everybody"
"""The permission of an ask that proves itself otherwise (a node's join token)."""

PERMISSIONS: dict[str, frozenset[str]] = {
    "admin": frozenset({"*"}),
    "project": frozenset(
        {
            "endpoint.read",
            "endpoint.write",
            "job.read",
            "job.write",
            "lease.read",
            "lease.write",
            "quota.read",
            "site.read",
            "model.call",
            "usage.read",
            "price.read",
            "carbon.read",
            "event.read",
            "request.read",
            "project.read",
            "key.read",
        }
    ),
    "service": frozenset({"*"}),
}
"""What each role may do. ``*`` is everything, in every project."""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, as the gateway (or a service) vouches for it; sealed by ``meshkit.principal``."""

    principal_id: str
    role: str
    organization: OrganizationId | None = None
    project: ProjectId | None = None
    expires_at: Time

    def may(self, permission: str) -> bool:
        """Tell whether the role allows ``permission``."""
        allowed = PERMISSIONS.get(self.role, frozenset())
        return permission == EVERYBODY or "*" in allowed or permission in allowed

    def sees(self, project: str | None) -> bool:
        """Tell whether what belongs to ``project`` is this principal's to see."""
        return "*" in PERMISSIONS.get(self.role, frozenset()) or (
            project is not None and project == self.project
        )


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag_field="tag", omit_defaults=True):
    """A question, or a wish somebody waits for. Answered with ``reply`` or a ``Problem``.

    ``principal`` is opaque; one function of meshkit opens it. An ask that changes something
    carries an ``idempotency_key``: the stored answer is given again for 24 hours.
    """

    permission: ClassVar[str]
    reply: ClassVar[Any]
    changes: ClassVar[bool] = False

    ask_id: Id
    asked_at: Time
    deadline: Time
    principal: str = ""
    site: Site
    idempotency_key: Text | None = None
    traceparent: TraceParent | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why not, and what to do: RFC 9457, with a stable ``code``.

    ``param`` names the field at fault where there is one; ``reasons`` are machine-readable.
    """

    title: str
    status: int
    code: str
    detail: str
    type: str = "about:blank"
    param: str | None = None
    reasons: list[dict[str, Any]] = []
    retry_after_s: int | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """How a list is asked for: at most ``limit`` items after ``cursor``."""

    limit: int = 100
    cursor: str | None = None


class Empty(msgspec.Struct, frozen=True, kw_only=True):
    """An answer without content."""


def subject_of_ask(kind: type[Ask], site: str, owner: str | None = None) -> str:
    """Return ``ask.<owner>.<noun>.<verb>.<site>``; ``owner`` for asks that every owner answers."""
    tag = tag_of(kind)
    if owner is not None and tag.startswith("any."):
        tag = f"{owner}.{tag.removeprefix('any.')}"
    return f"ask.{tag}.{site}"


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fact that a reader gave up on, or does not know the type of (``parked``)."""

    dead_letter_id: Sequence
    reader: str
    stream: str
    subject: str
    tag: str
    key: str
    fact_id: str
    reason: str
    tries: int
    parked: bool
    at: Time


class DeadLetters(msgspec.Struct, frozen=True, kw_only=True):
    """One owner's dead letters, oldest first."""

    items: list[DeadLetter]
    next: str | None = None


class ListDeadLetters(Ask, frozen=True, kw_only=True, tag="any.dead-letter.list"):
    """Ask an owner which facts it gave up on."""

    permission: ClassVar[str] = "mesh.operate"
    reply: ClassVar[Any] = DeadLetters

    page: Page = Page()


class RedriveDeadLetter(Ask, frozen=True, kw_only=True, tag="any.dead-letter.redrive"):
    """Wish that a fact is handled once more. Refused where its key has moved on."""

    permission: ClassVar[str] = "mesh.operate"
    reply: ClassVar[Any] = Empty
    changes: ClassVar[bool] = True

    dead_letter_id: Sequence


__all__ = [
    "EVERYBODY",
    "PERMISSIONS",
    "Ask",
    "DeadLetter",
    "DeadLetters",
    "Empty",
    "ListDeadLetters",
    "Name",
    "Page",
    "Principal",
    "Problem",
    "RedriveDeadLetter",
    "subject_of_ask",
]
