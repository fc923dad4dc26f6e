"""What follows from all that happened in one transaction: seen to once, before it commits.

A gang of a thousand members ends in a thousand facts. Each moves its own rows when it is heard; what others make of
the room comes after the last of those that are decided together.
"""

from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from meshkit.store import Transaction

from placement import memory, work
from placement.ahead import Ahead
from placement.settle import settle


class _Later:
    """What is to be looked at again, each with what it follows from."""

    def __init__(self, cause: Any, now: datetime) -> None:
        self.cause, self.now = cause, now
        self.owners: dict[str, Any] = {}
        self.endpoints: dict[str, Any] = {}
        self.node_ids: set[str] = set()
        self.freed: set[str] = set()
        self.settles = False


async def look_later(tx: Transaction, cause: Any, now: datetime, *owners: str) -> None:
    """Have ``work.look_at`` look at jobs and leases before ``tx`` commits."""
    later = await _of(tx, cause, now)
    later.owners |= dict.fromkeys(owners, cause)


async def settle_later(
    tx: Transaction,
    cause: Any,
    now: datetime,
    *,
    endpoints: Iterable[str] = (),
    node_id: str | None = None,
    freed: str | None = None,
) -> None:
    """Have ``settle`` look at endpoints, at what is on a node, and on one where something was freed, before the commit."""
    later = await _of(tx, cause, now)
    later.settles = True
    later.endpoints |= dict.fromkeys(endpoints, cause)
    if node_id is not None:
        later.node_ids.add(node_id)
    if freed is not None:
        later.freed.add(freed)


async def _of(tx: Transaction, cause: Any, now: datetime) -> _Later:
    # Held before what follows is asked for: what is decided then is written after it.
    await memory.hold(tx, cause.site)
    later: _Later | None = tx.own.get((_Later, cause.site))
    if later is None:
        later = tx.own[_Later, cause.site] = _Later(cause, now)

        async def follow() -> None:
            del tx.own[_Later, cause.site]
            await _follow(tx, later)

        tx.before_commit(follow)
    later.cause, later.now = cause, max(now, later.now)
    return later


async def _follow(tx: Transaction, later: _Later) -> None:
    causes: dict[int, tuple[Any, list[str]]] = {}
    for owner, cause in later.owners.items():
        causes.setdefault(id(cause), (cause, []))[1].append(owner)
    coming = deque(one for _, owners in causes.values() for one in owners)
    ahead = Ahead(tx, coming)
    for cause, owners in causes.values():
        for _ in owners:
            coming.popleft()
        await work.look_at(tx, cause, later.now, *owners, ahead=ahead)
    if later.settles:
        await settle(
            *(tx, later.cause, later.now),
            endpoints=later.endpoints,
            node_ids=sorted(later.node_ids),
            freed=sorted(later.freed),
            seen=later.owners,
        )
