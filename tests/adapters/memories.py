"""Placement's memory on a real Postgres, as a start finds it; and what it is given."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from meshkit.clock import SystemClock
from meshkit.config import Secret
from meshkit.store import Store, Transaction
from placement import logbook, memory
from placement.app import MIGRATIONS
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.wish import Asked, Input, NodePut, Wish

SITE = "fr-idf-1"
Open = Callable[[], Awaitable[Store]]


class Unwell(Exception):
    pass


def node(name: str, gpus: int = 8) -> NodePut:
    return NodePut(
        spec=NodeSpec(node=name, model="H100", gpus=gpus, memory_mib=4_096, jurisdiction="FR")
    )


def ask(name: str, gpus: int = 1) -> Asked:
    terms = Terms(jurisdictions=("FR",))
    one = Wish(
        workload=name,
        organization="o",
        project="p",
        kind="job",
        size=Size(gpus=gpus),
        terms=terms,
        group="g",
    )
    return Asked(wish=one, at=0)


async def decide(tx: Transaction, given: Input) -> Any:
    """Return what is decided; what follows from it nobody has to see to here."""
    outcome = await memory.apply(tx, SITE, given)
    (await memory.hold(tx, SITE)).followed.clear()
    return outcome


async def give(store: Store, *inputs: Input) -> list[Any]:
    async with store.transaction() as tx:
        return [await decide(tx, one) for one in inputs]


async def give_up(store: Store, *inputs: Input) -> None:
    """Give inputs in a transaction that is rolled back."""
    async with store.transaction() as tx:
        for one in inputs:
            await decide(tx, one)
        raise Unwell


async def held(store: Store) -> memory.Memory:
    async with store.transaction() as tx:
        return await memory.hold(tx, SITE)


async def rows(store: Store) -> list[logbook.Row]:
    async with store.transaction() as tx:
        return await logbook.read(tx, SITE, 0, 100_000)


@asynccontextmanager
async def starts(dsn: str) -> AsyncIterator[Open]:
    """Start on the same database as often as is asked for: each time a process that remembers nothing."""
    stores: list[Store] = []

    async def opening() -> Store:
        stores.append(
            await Store.connect(
                Secret(dsn), owner="placement", clock=SystemClock(), migrations=MIGRATIONS
            )
        )
        return stores[-1]

    yield opening
    for store in stores:
        await store.close()
