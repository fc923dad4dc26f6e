"""What one consumer's facts are handled by, from the bus or from the dead letters."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mesh_contracts.ask import Problem
from mesh_contracts.fact import Fact, tag_of
from opentelemetry.trace import SpanKind

from meshkit import deadletter
from meshkit.clock import Clock
from meshkit.ears import Ears
from meshkit.errors import Unavailable
from meshkit.store import Store
from meshkit.telemetry import METRICS, span
from meshkit.transaction import Row, Transaction

FactHandler = Callable[[Any, Transaction, Clock], Awaitable[None]]

logger = logging.getLogger(__name__)


class Handled:
    """One consumer's handlers."""

    def __init__(self, name: str, store: Store, handlers: Mapping[type[Fact], FactHandler]) -> None:
        self.name = name
        self.store = store
        self.ears = Ears(handlers)
        self.tags = [tag_of(kind) for kind in handlers]
        self._handlers = dict(handlers)

    async def handle(self, fact: Fact, tx: Transaction) -> None:
        """Let a fact have its effect within ``tx``."""
        await self._handlers[type(fact)](fact, tx, self.store.clock)

    async def redrive(self, tx: Transaction, row: Row) -> Problem | None:
        """Handle a dead letter once more, or say why not; the handler's own exceptions come through."""
        if not row["parked"] and await deadletter.has_passed(tx, row):
            detail = f"{row['key']} has moved past version {row['version']}; let this one be"
            return deadletter.problem(409, "superseded", detail)
        fact = self.ears.fact_in(row["payload"])
        if fact is None:
            detail = f"this process cannot read {row['tag']}; run the program that can, then try again"
            return deadletter.problem(409, "unknown_type", detail)
        with span("redrive", kind=SpanKind.CONSUMER, parent=row["traceparent"]):
            await self.handle(fact, tx)
        await deadletter.forget(tx, row)
        return None

    async def unpark(self, dead_letter_id: int) -> None:
        """Handle a fact that waited for this process's types; where that fails it is a dead letter."""
        try:
            async with self.store.transaction() as tx:
                row = await deadletter.load(tx, dead_letter_id)
                if row is not None and row["parked"]:
                    await self.redrive(tx, row)
        except Unavailable:
            raise
        except Exception as fault:
            logger.exception("%s: a parked fact was not handled", self.name)
            async with self.store.transaction() as tx:
                await deadletter.give_up(tx, dead_letter_id, f"{type(fault).__name__}: {fault}")
        else:
            METRICS.count("mesh_facts_unparked_total", consumer=self.name)
