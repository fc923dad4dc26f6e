"""Moves as time passes: those that find room begin, those whose time is over are given up, and that is told."""

from datetime import datetime
from typing import Any

from mesh_contracts.fact import born_of
from mesh_contracts.placement import WorkloadRefused
from meshkit.store import Transaction

from placement import moving, reading
from placement.domain.moves import given_up
from placement.settle import settle


async def follow(tx: Transaction, cause: Any, now: datetime) -> None:
    """Try again what waits for room where it is to sit; have those stay whose time is over."""
    for endpoint_id, to_node in await moving.give_up(tx, cause.site, now):
        wanted = await reading.load_wanted(tx, endpoint_id)
        if wanted is None:
            continue
        scope = {"organization": wanted.organization, "project": wanted.project}
        born = born_of(cause, now, WorkloadRefused, key=endpoint_id, **scope)
        reasons = [given_up(to_node)]
        await tx.tell(WorkloadRefused(**born, endpoint_id=endpoint_id, reasons=reasons))
    waiting = await moving.waiting(tx, cause.site)
    if waiting:
        await settle(tx, cause, now, endpoints=waiting)
