"""What one consumer's facts are handled by, from the bus or from the dead letters."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mesh_contracts.ask import Problem
from mesh_contracts.fact import Fact, subject_of, tag_of
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
        fact = self.ears.fact_in(row["payload"])
        if fact is None:
            detail = f"this process cannot read {row['tag']}; run the program that can, then try again"
            return deadletter.problem(409, "unknown_type", detail)
        # Of one that could not be read when it came, all that follows is known only now.
        if subject_of(fact) != row["subject"]:
            detail = "it stands on a subject that is not its own; let this one be"
            return deadletter.problem(409, "misplaced", detail)
        passed = await deadletter.has_passed(tx, self.name, fact)
        if passed and fact.ordered and not row["parked"]:
            detail = f"{fact.key} has moved past version {fact.version}; let this one be"
            return deadletter.problem(409, "superseded", detail)
        if fact.fact_id == row["fact_id"] or await deadletter.hear(tx, self.name, fact.fact_id):
            with span("redrive", kind=SpanKind.CONSUMER, parent=row["traceparent"]):
                await self.handle(fact, tx)
        await deadletter.forget(tx, row)
        return None

    async def unpark(self, dead_letter_id: int) -> None:
        """Handle a fact that waited for this process's types; where that fails it is a dead letter."""
        try:
            async with self.store.transaction(changes=True) as tx:
                row = await deadletter.load(tx, dead_letter_id)
                if row is not None and row["parked"]:
                    problem = await self.redrive(tx, row)
                    if problem is not None:
                        await deadletter.give_up(tx, dead_letter_id, problem.detail)
        except Unavailable:
            raise
        except Exception as fault:
            logger.exception("%s: a parked fact was not handled", self.name)
            async with self.store.transaction() as tx:
                await deadletter.give_up(tx, dead_letter_id, f"{type(fault).__name__}: {fault}")
        else:
            METRICS.count("mesh_facts_unparked_total", consumer=self.name)
