"""Which project, job or lease a text means, and what to say where it means none or several."""

from collections.abc import Sequence
from typing import TypeVar

from mesh_contracts.ask import Principal, Problem
from meshkit.errors import NotHeardYet
from meshkit.store import Transaction

from placement import reading
from placement.reading import Project

T = TypeVar("T")


def missing(what: str, name: str, todo: str) -> Problem:
    """Return a 404 for what is not there, or not the principal's to see."""
    return Problem(
        title=f"No such {what}",
        status=404,
        code=f"{what}_not_found",
        detail=f"there is no {what} {name!r} that you can see: {todo}",
        param=what,
    )


def taken(what: str, name: str) -> Problem:
    """Return a 409 for a name that another has."""
    return Problem(
        title="The name is taken",
        status=409,
        code="name_taken",
        detail=f"the project has {what} {name!r}: choose another name, or end that one",
        param="name",
    )


def moved_on(what: str, generation: int, asked: int | None) -> Problem | None:
    """Return a 412 where something is not at the generation that a change was made from."""
    if asked is None or asked == generation:
        return None
    return Problem(
        title=f"The {what} has changed since",
        status=412,
        code="generation_mismatch",
        detail=f"it is at generation {generation}, not {asked}: read it again, then repeat your change",
        param="generation",
    )


def sees_all(principal: Principal) -> bool:
    """Tell whether every project is the principal's to see."""
    return principal.sees(None)


def only_project(principal: Principal) -> str | None:
    """Return the project whose things alone the principal sees; ``None`` where it sees all."""
    return None if sees_all(principal) else principal.project or ""


def the_one(what: str, text: str, found: Sequence[T]) -> T | Problem:
    """Return the only one that was found by a text, or a problem."""
    if not found:
        return missing(what, text, f"GET /api/v1/{what}s lists yours")
    if len(found) > 1:
        return Problem(
            title=f"Several {what}s have that name",
            status=422,
            code=f"{what}_ambiguous",
            detail=f"several projects have a {what} {text!r}: give its id",
            param=what,
        )
    return found[0]


async def project_of(text: str, principal: Principal, tx: Transaction) -> Project | Problem:
    """Return the project that is meant: an id, a name, or ``organization/name``.

    Raises ``NotHeardYet`` where it may be told of any moment.
    """
    return the_project(text, principal, (await reading.find_projects(tx, [text]))[text])


def the_project(text: str, principal: Principal, found: Sequence[Project]) -> Project | Problem:
    """Return which of the projects that a text may mean is meant. Raises as ``project_of`` does."""
    found = [item for item in found if principal.sees(item.project_id)]
    own = [item for item in found if item.organization == principal.organization]
    found = own if len(own) == 1 else found
    if not found:
        todo = "give its id, its name, or organization/name; GET /api/v1/projects lists them"
        raise NotHeardYet(missing("project", text, todo))
    if len(found) > 1:
        return Problem(
            title="Several projects have that name",
            status=422,
            code="project_ambiguous",
            detail=f"{len(found)} projects are called {text!r}: give organization/name or the id",
            param="project",
        )
    return found[0]
