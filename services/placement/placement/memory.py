"""The engines of all sites, each held by one transaction at a time: no two decide at once."""

import asyncio

from meshkit.store import Transaction

from placement.domain.engine.engine import Engine
from placement.domain.engine.wish import Input, Outcome
from placement.sitememory import Memory


class Memories:
    """The engines of one database's sites, and who may change them now."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._holder: Transaction | None = None
        self._sites: dict[str, Memory] = {}

    def at(self, site: str) -> Memory:
        """Return a site's memory."""
        memory = self._sites.get(site)
        if memory is None:
            memory = self._sites[site] = Memory(site)
        return memory

    async def hold(self, tx: Transaction, site: str) -> Memory:
        """Return a site's memory, up to date and nobody else's until ``tx`` ends."""
        if self._holder is not tx:
            # Here, too, and until it is known how the transaction ended: the database gives its lock on before.
            await self._lock.acquire()
            self._holder = tx
            tx.at_end(self._let_go)
        memory = self.at(site)
        await memory.begin(tx)
        return memory

    def trouble(self) -> str | None:
        """Return what came out otherwise than it was decided, if anything did since the start."""
        return next((one.differs for one in self._sites.values() if one.differs), None)

    def _let_go(self, _committed: bool) -> None:
        self._holder = None
        self._lock.release()


def of(beside: dict[type, Memories]) -> Memories:
    """Return the memories that are held beside a database."""
    memories = beside.get(Memories)
    if memories is None:
        memories = beside[Memories] = Memories()
    return memories


async def hold(tx: Transaction, site: str) -> Memory:
    """Return a site's memory; no other decision is under way until this transaction ends."""
    return await of(tx.beside).hold(tx, site)


async def apply(tx: Transaction, site: str, given: Input) -> Outcome:
    """Return what is decided, and have it be so once ``tx`` commits."""
    return (await hold(tx, site)).apply(given)


async def copy(tx: Transaction, site: str) -> Engine:
    """Return an engine that knows what the site's does, to try things on."""
    return (await hold(tx, site)).engine.copy()
