"""An ask's handler within its transaction: idempotent, retried where it raced, refused where it must be."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from mesh_contracts import wire
from mesh_contracts.ask import Ask, Principal, Problem
from mesh_contracts.fact import tag_of

from meshkit.clock import Clock
from meshkit.errors import NotHeardYet, StaleSnapshot, Unavailable
from meshkit.idempotency import REPLY_KEPT, at_rest, body_hash, name_of
from meshkit.relay import Relay
from meshkit.store import Store
from meshkit.transaction import Transaction

ASK_TRIES_MAX: Final = 5
RACE_WAIT_S: Final = 0.01
HEARD_WITHIN_S: Final = 2.0
"""How long an ask waits for what it names to be heard of (``NotHeardYet``); a typo waits as long."""
HEARD_POLL_S: Final = 0.05
ANSWER_EARLY_S: Final = 0.1

AskHandler = Callable[[Any, Principal, Any, Clock], Awaitable[Any]]

logger = logging.getLogger(__name__)


class _Refused(Exception):
    """Rolls the transaction back, and carries why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


class AskDoor:
    """Answers one kind of ask with its handler."""

    def __init__(
        self,
        handler: AskHandler,
        *,
        clock: Clock,
        store: Store | None = None,
        relay: Relay | None = None,
        after_puts: bool = False,
    ) -> None:
        self._handler = handler
        self._clock = clock
        self._store = store
        self._relay = relay
        self._after_puts = after_puts

    async def __call__(self, ask: Ask, principal: Principal) -> Any | Problem:
        """Return the reply, or a problem; both are safe to send. Other exceptions come through."""
        store = self._store
        if store is None:
            return await self._handler(ask, principal, None, self._clock)
        if ask.changes and store.outbox_full:
            return problem(
                503, "outbox_full", "too much waits to be told; try again later", retry_after_s=5
            )
        # A little before the asker stops waiting, so that it hears why.
        left_s = (ask.deadline - self._clock.now()).total_seconds() - ANSWER_EARLY_S
        try:
            async with asyncio.timeout(max(left_s, ANSWER_EARLY_S)):
                reply, waiting = await self._heard(store, ask, principal)
                if self._after_puts and self._relay is not None and waiting:
                    await self._relay.flushed(waiting)
        except _Refused as refused:
            return refused.problem
        except StaleSnapshot:
            return problem(
                409, "changed_meanwhile", "it kept changing while this was decided; try again"
            )
        except (Unavailable, TimeoutError) as fault:
            logger.warning("%s was not answered: %s", tag_of(type(ask)), fault or "bus too slow")
            detail = "the database or the bus is away; the same ask may be sent again"
            return problem(503, "unavailable", detail, retry_after_s=1)
        return reply

    async def _heard(self, store: Store, ask: Ask, principal: Principal) -> tuple[Any, list[int]]:
        loop = asyncio.get_running_loop()
        until = loop.time() + HEARD_WITHIN_S
        while True:
            try:
                return await self._transacted(store, ask, principal)
            except NotHeardYet as unheard:
                if loop.time() > until:
                    raise _Refused(unheard.problem) from None
            await asyncio.sleep(HEARD_POLL_S)

    async def _transacted(self, store: Store, ask: Ask, principal: Principal) -> tuple[Any, list[int]]:
        for left in reversed(range(ASK_TRIES_MAX)):
            try:
                async with store.transaction(changes=ask.changes) as tx:
                    reply, replayed = await self._in(tx, ask, principal)
                    if replayed and self._after_puts:
                        # The first answer may have died before its puts were acknowledged.
                        rows = await tx.rows("SELECT id FROM outbox WHERE kind <> 'fact'")
                        return reply, [row["id"] for row in rows]
            except StaleSnapshot as race:
                if not left or isinstance(race, NotHeardYet):
                    raise
                await asyncio.sleep(RACE_WAIT_S)
            else:
                return reply, tx.outbox_ids
        raise AssertionError

    async def _in(self, tx: Transaction, ask: Ask, principal: Principal) -> tuple[Any, bool]:
        keyed = ask.changes and ask.idempotency_key is not None
        if keyed and (given := await _claim(tx, ask, principal)) is not None:
            return given, True
        reply = await self._handler(ask, principal, tx, self._clock)
        if isinstance(reply, Problem):
            raise _Refused(reply)
        if keyed:
            await tx.change(
                "UPDATE reply SET reply = $4 WHERE principal = $1 AND ask = $2 AND idempotency_key = $3",
                *name_of(ask, principal),
                at_rest(reply),
            )
        return reply, False


async def _claim(tx: Transaction, ask: Ask, principal: Principal) -> Any | None:
    """Claim the key for this transaction, or return what was answered under it.

    Whoever claims the same key meanwhile waits here for the first one's end.
    """
    name, digest = name_of(ask, principal), body_hash(ask)
    claimed = await tx.change(
        "INSERT INTO reply (principal, ask, idempotency_key, body_hash, reply, at)"
        " VALUES ($1, $2, $3, $4, '', $5) ON CONFLICT (principal, ask, idempotency_key) DO UPDATE"
        " SET body_hash = excluded.body_hash, reply = '', at = excluded.at WHERE reply.at < $6",
        *(*name, digest, tx.now, tx.now - REPLY_KEPT),
    )
    if claimed:
        return None
    row = await tx.row(
        "SELECT body_hash, reply FROM reply WHERE principal = $1 AND ask = $2 AND idempotency_key = $3",
        *name,
    )
    assert row is not None
    if row["body_hash"] != digest:
        detail = "this idempotency key was used for another request; draw a new one"
        raise _Refused(problem(422, "idempotency_key_reused", detail))
    return wire.decode(row["reply"], type(ask).reply)


def problem(status: int, code: str, detail: str, *, retry_after_s: int | None = None) -> Problem:
    """Return what a door answers where it cannot answer as its handler would."""
    title = {409: "It changed meanwhile", 422: "The key was used before", 503: "Not now"}[status]
    return Problem(title=title, status=status, code=code, detail=detail, retry_after_s=retry_after_s)
