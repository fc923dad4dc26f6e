"""The asks that every owner with a database answers: which facts were given up on, and try one again."""

import logging
from collections.abc import Mapping

from mesh_contracts.ask import (
    DeadLetters,
    Empty,
    ListDeadLetters,
    Principal,
    Problem,
    RedriveDeadLetter,
)

from meshkit import deadletter
from meshkit.clock import Clock
from meshkit.errors import StaleSnapshot, Unavailable
from meshkit.handled import Handled
from meshkit.transaction import Transaction

logger = logging.getLogger(__name__)


class DeadLetterDoor:
    """Answers for the dead letters of every consumer of this service."""

    def __init__(self, known: Mapping[str, Handled]) -> None:
        self._known = known

    async def listed(
        self, ask: ListDeadLetters, _principal: Principal, tx: Transaction, _clock: Clock
    ) -> DeadLetters:
        """Return a page of dead letters and parked facts, oldest first."""
        return await deadletter.listed(tx, ask.page)

    async def redriven(
        self, ask: RedriveDeadLetter, _principal: Principal, tx: Transaction, _clock: Clock
    ) -> Empty | Problem:
        """Handle one once more; a problem says why it was not."""
        row = await deadletter.load(tx, ask.dead_letter_id)
        if row is None:
            return deadletter.problem(404, "not_found", "there is no such dead letter; list them again")
        handled = self._known.get(row["reader"])
        if handled is None:
            detail = f"this process does not read {row['reader']}; run the program that does"
            return deadletter.problem(409, "unknown_reader", detail)
        try:
            problem = await handled.redrive(tx, row)
        except (StaleSnapshot, Unavailable):
            raise
        except Exception as fault:
            logger.exception("dead letter %d fails still", ask.dead_letter_id)
            detail = f"it fails still: {type(fault).__name__}; mend its cause, then try again"
            return deadletter.problem(409, "still_fails", detail)
        return Empty() if problem is None else problem
