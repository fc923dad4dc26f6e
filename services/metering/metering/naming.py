"""Which scope is meant: ids, and names of projects and organizations where metering knows them."""

from mesh_contracts.ask import Problem
from mesh_contracts.metering import ScopeKind
from mesh_contracts.units import is_id
from meshkit.errors import NotHeardYet
from meshkit.store import Transaction

from metering import ceilings
from metering.domain import wishes

Meant = tuple[str, str | None, str | None]
"""A scope's id, its organization and its project, the latter two where they are known."""


async def named(tx: Transaction, kind: ScopeKind, text: str) -> Meant | Problem:
    """Return the scope that is meant. A project or an organization may be told of any moment.

    Keys and endpoints are meant by their ids alone; whether there is such a one metering cannot know.
    """
    if kind == "project":
        found = [
            (row["project_id"], row["organization_id"], row["project_id"])
            for row in await ceilings.projects_called(tx, text)
        ]
        return _only(kind, text, found)
    if kind == "organization":
        known = [text] if is_id(text, "org") else await ceilings.organizations_called(tx, text)
        return _only(kind, text, [(one, one, None) for one in known])
    return (text, None, None) if is_id(text, kind) else wishes.no_scope(kind, text)


def _only(kind: ScopeKind, text: str, found: list[Meant]) -> Meant | Problem:
    if not found:
        raise NotHeardYet(wishes.no_scope(kind, text))
    return found[0] if len(found) == 1 else wishes.ambiguous(kind, text, len(found))
