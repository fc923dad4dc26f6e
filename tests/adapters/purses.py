"""What the tests of budgets and limits share: metering's doors on a real Postgres, gateways that ask and bill."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from mesh_contracts import wire
from mesh_contracts.ask import Principal
from mesh_contracts.fact import tag_of
from mesh_contracts.identity import ProjectAdmitted
from mesh_contracts.inference import UsageMetered, UsageRow
from mesh_contracts.metering import (
    Budget,
    BudgetCrossed,
    Budgets,
    Ceiling,
    DeleteBudget,
    DeleteLimit,
    Lease,
    Leases,
    LeaseWish,
    Limit,
    ListBudgets,
    ListHoldings,
    ListLimits,
    ReleaseHolding,
    RenewLeases,
    SetBudget,
    SetLimit,
)
from meshkit.config import Secret
from meshkit.errors import NotHeardYet, StaleSnapshot
from meshkit.store import Store
from meshkit.testing import NOW, FrozenClock, envelope, test_id, wish
from metering import budget_asks, handlers, holding_asks, limit_asks
from metering.app import MIGRATIONS
from metering.renewing import renew_leases

PROJECT, OTHER = test_id("project", "demo"), test_id("project", "other")
ORGANIZATION, KEY = test_id("org", "o"), test_id("key", "k")
ENDPOINT = test_id("endpoint", "e")
TENANT = Principal(principal_id="key_t", role="project", project=PROJECT, expires_at=NOW)
ADMIN = Principal(principal_id="key_a", role="admin", expires_at=NOW)
TOKENS = 1_000_000
"""Prompt tokens of a model at a price of its own that cost a million micro-euros: one each."""

DOORS: dict[type, Callable[..., Awaitable[Any]]] = {
    SetBudget: budget_asks.set_budget,
    ListBudgets: budget_asks.list_budgets,
    DeleteBudget: budget_asks.delete_budget,
    SetLimit: limit_asks.set_limit,
    ListLimits: limit_asks.list_limits,
    DeleteLimit: limit_asks.delete_limit,
    RenewLeases: renew_leases,
    ListHoldings: holding_asks.list_holdings,
    ReleaseHolding: holding_asks.release_holding,
}


class Purses:
    """Metering's doors, without a bus: each ask and each batch in a transaction of its own."""

    def __init__(self, store: Store, clock: FrozenClock) -> None:
        self.store, self.clock = store, clock
        self._rows = count(1)
        self._batches = count(1)

    async def ask(self, kind: Any, who: Principal = ADMIN, **fields: Any) -> Any:
        fields.setdefault("asked_at", self.clock.now())
        asked = kind(**wish(**fields))
        for _ in range(20):
            try:
                async with self.store.transaction() as tx:
                    return await DOORS[kind](asked, who, tx, self.clock)
            except NotHeardYet as unheard:
                return unheard.problem
            except StaleSnapshot:
                continue
        raise AssertionError

    async def budget(
        self, amount: int, scope: str = PROJECT, kind: str = "project", **fields: Any
    ) -> Budget:
        fields = {"period": "total", **fields}
        made: Budget = await self.ask(
            SetBudget, scope_kind=kind, scope=scope, amount_microeur=amount, **fields
        )
        return made

    async def limit(self, scope: str = PROJECT, kind: str = "project", **fields: Any) -> Limit:
        made: Limit = await self.ask(SetLimit, scope_kind=kind, scope=scope, **fields)
        return made

    async def seen(self, who: Principal = ADMIN) -> dict[str, Budget]:
        listed: Budgets = await self.ask(ListBudgets, who)
        return {one.scope_id: one for one in listed.items}

    async def renew(self, name: str, epoch: int = 1, scope: str = PROJECT, **fields: Any) -> Lease:
        """Return one gateway's lease of one scope."""
        more = {"settled_below": fields.pop("settled_below", 0)}
        leases = await self.leases(name, epoch, wishes=[LeaseWish(scope_id=scope, **fields)], **more)
        return leases.items[0]

    async def leases(self, name: str, epoch: int = 1, **fields: Any) -> Leases:
        made: Leases = await self.ask(RenewLeases, producer=name, epoch=epoch, **fields)
        return made

    def row(self, cost: int, **fields: Any) -> UsageRow:
        """Return a row that costs as many micro-euros."""
        given: dict[str, Any] = {
            "request_id": test_id("request", f"{id(self)}/{next(self._rows)}"),
            "organization": ORGANIZATION,
            "project": PROJECT,
            "key_id": KEY,
            "endpoint_id": ENDPOINT,
            "model": "one-each",
            "route": "chat",
            "streamed": True,
            "started_at": self.clock.now(),
            "ended_at": self.clock.now() + timedelta(seconds=1),
            "state": "completed",
            "status": 200,
            "tokens_from": "engine",
            "prompt_tokens": cost,
            "completion_tokens": 0,
        }
        return UsageRow(**{**given, **fields})

    async def bill(self, name: str, *rows: UsageRow, epoch: int = 1) -> UsageMetered:
        """Have a gateway's batch heard."""
        number = next(self._batches)
        batch = UsageMetered(
            **envelope(name, traceparent=None),
            producer=name,
            epoch=epoch,
            sequence=number,
            rows=list(rows),
        )
        await self.hear(batch)
        return batch

    async def hear(self, batch: UsageMetered) -> None:
        for _ in range(20):
            try:
                async with self.store.transaction() as tx:
                    await handlers.on_usage_metered(batch, tx, self.clock)
            except StaleSnapshot:
                continue
            return
        raise AssertionError

    async def spend(self, name: str, cost: int, *, epoch: int = 1, **fields: Any) -> None:
        await self.bill(name, self.row(cost, **fields), epoch=epoch)

    async def admitted(self, project: str = PROJECT, name: str = "demo", org: str = "acme") -> None:
        told = envelope(project, organization=ORGANIZATION)
        fact = ProjectAdmitted(**told, name=name, organization_name=org)
        async with self.store.transaction() as tx:
            await handlers.on_project_admitted(fact, tx, self.clock)

    async def crossings(self) -> list[tuple[str, str]]:
        """Return (scope, how far) of all that was told, in order."""
        tag = tag_of(BudgetCrossed).partition("/")[0]
        async with self.store.transaction() as tx:
            rows = await tx.rows(
                "SELECT payload FROM outbox WHERE kind = 'fact' AND subject LIKE $1 ORDER BY id",
                f"{tag}.%",
            )
        told = [wire.decode(row["payload"], BudgetCrossed) for row in rows]
        return [(one.scope_id, one.crossed) for one in told]

    async def ceiling(self, scope: str = PROJECT) -> Ceiling | None:
        """Return what the bucket will show of a scope."""
        async with self.store.transaction() as tx:
            row = await tx.row(
                "SELECT kind, payload FROM outbox WHERE subject = 'limits' AND key = $1"
                " ORDER BY id DESC LIMIT 1",
                f"ceiling.{scope}",
            )
        return None if row is None or row["kind"] == "drop" else wire.decode(row["payload"], Ceiling)

    def at(self, text: str) -> datetime:
        """Let time pass until then, and return it."""
        at = datetime.fromisoformat(text)
        self.clock.move((at - self.clock.now()).total_seconds())
        return at


@asynccontextmanager
async def purses(dsn: str) -> AsyncIterator[Purses]:
    clock = FrozenClock()
    store = await Store.connect(Secret(dsn), owner="metering", clock=clock, migrations=MIGRATIONS)
    async with store.transaction() as tx:
        await tx.change(
            "INSERT INTO price VALUES ('one-each-1', 'one-each', $1, 0, '2000-01-01T00:00:00Z')", TOKENS
        )
    made = Purses(store, clock)
    await made.admitted()
    try:
        yield made
    finally:
        await store.close()
