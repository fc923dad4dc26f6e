"""Asks that arrive within a few milliseconds, decided in one transaction: the group commit of a service's doors.

The commit is what an ask waits for longest, and a hundred wait for one as long as one does. While a
transaction is under way the next asks gather; each is answered once what was decided on it has
committed. One that is refused leaves nothing behind and holds nobody up; where the handler fails, each
is tried alone, so that only the one it fails on has to say so.
"""

import asyncio
import contextvars
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec
from mesh_contracts import wire
from mesh_contracts.ask import Ask, Principal, Problem
from mesh_contracts.fact import tag_of

from meshkit.clock import Clock
from meshkit.doors import (
    ANSWER_EARLY_S,
    ASK_TRIES_MAX,
    HEARD_POLL_S,
    HEARD_WITHIN_S,
    RACE_WAIT_S,
    problem,
)
from meshkit.errors import NotHeardYet, StaleSnapshot, Unavailable
from meshkit.idempotency import Name, body_hash, given_before, keep, name_of
from meshkit.store import Store
from meshkit.telemetry import METRICS
from meshkit.transaction import Transaction

TOGETHER_MAX: Final = 128
"""Asks of one transaction."""
TOGETHER_WAIT_S: Final = 0.003
"""How long a transaction waits for more to come before it begins."""
TOGETHER_WAITING_MAX: Final = 1_024
"""Asks that wait for their turn; past it the answer is 503 ``busy``."""

logger = logging.getLogger(__name__)


class Asked(NamedTuple):
    """One ask of several, and who asks."""

    ask: Any
    principal: Principal


Answers = Sequence[Any]
"""One for each ask, in their order: the reply, a ``Problem``, or ``NotHeardYet`` to be asked again."""
TogetherHandler = Callable[[Sequence[Asked], Transaction, Clock], Awaitable[Answers]]
"""Changes nothing on account of an ask that it answers with a ``Problem`` or ``NotHeardYet``."""


class _Waiting(msgspec.Struct, eq=False):
    """An ask that waits for its answer, at most until ``until`` for what it names to be heard of."""

    asked: Asked
    name: Name | None
    digest: bytes
    until: float
    answer: asyncio.Future[Any]

    def say(self, answer: Any) -> None:
        """Answer, unless nobody waits any more."""
        if not self.answer.done():
            self.answer.set_result(answer)


class TogetherDoor:
    """Answers asks of some kinds, each kind with its handler, many to a transaction, one transaction at a time."""

    def __init__(
        self, handlers: Mapping[type[Ask], TogetherHandler], *, clock: Clock, store: Store
    ) -> None:
        self._handlers = handlers
        self._clock = clock
        self._store = store
        self._waiting: deque[_Waiting] = deque()
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, ask: Ask, principal: Principal) -> Any | Problem:
        """Return the reply, or a problem, once it is committed."""
        if ask.changes and self._store.outbox_full:
            return problem(
                503, "outbox_full", "too much waits to be told; try again later", retry_after_s=5
            )
        if len(self._waiting) >= TOGETHER_WAITING_MAX:
            return problem(503, "busy", "too many wait already; try again in a moment", retry_after_s=1)
        loop = asyncio.get_running_loop()
        keyed = ask.changes and ask.idempotency_key is not None
        waiting = _Waiting(
            asked=Asked(ask, principal),
            name=name_of(ask, principal) if keyed else None,
            digest=body_hash(ask) if keyed else b"",
            until=loop.time() + HEARD_WITHIN_S,
            answer=loop.create_future(),
        )
        self._waiting.append(waiting)
        self._begin()
        # A little before the asker stops waiting, so that it hears why.
        left_s = (ask.deadline - self._clock.now()).total_seconds() - ANSWER_EARLY_S
        try:
            async with asyncio.timeout(max(left_s, ANSWER_EARLY_S)):
                return await waiting.answer
        except TimeoutError:
            logger.warning("%s was not answered in time", tag_of(type(ask)))
            return _unavailable()

    def _begin(self) -> None:
        if self._running is None or self._running.done():
            # In a context of its own: none of the asks' traces is that of all.
            self._running = asyncio.create_task(self._run(), context=contextvars.Context())

    async def _run(self) -> None:
        while self._waiting:
            if len(self._waiting) < TOGETHER_MAX:
                await asyncio.sleep(TOGETHER_WAIT_S)
            await self._see_through([])

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < TOGETHER_MAX:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():
                batch.append(waiting)
        return batch

    async def _see_through(self, batch: list[_Waiting]) -> None:
        """Answer a batch, whatever happens to its transaction: where none is given, of all who wait once it begins."""
        answers: Answers = ()
        fault: Exception | None = None
        try:
            answers = await self._transacted(batch)
        except Exception as met:  # noqa: BLE001 - whatever it is, it is its ask's own
            fault = met
            batch = batch or self._take()
        if not batch:
            return
        for tag, many in Counter(_tags(batch)).items():
            METRICS.count("mesh_asks_together_total", many, tag=tag)
        METRICS.count("mesh_asks_transactions_total")
        if fault is not None:
            await self._failed(batch, fault)
            return
        for waiting, answer in zip(batch, answers, strict=True):
            if isinstance(answer, NotHeardYet):
                self._ask_again(waiting, answer)
            else:
                waiting.say(answer)

    async def _failed(self, batch: list[_Waiting], fault: Exception) -> None:
        tags = " and ".join(sorted(set(_tags(batch))))
        if isinstance(fault, StaleSnapshot | Unavailable):
            away = isinstance(fault, Unavailable)
            if away:
                logger.warning("%d of %s were not answered: %s", len(batch), tags, fault)
            for waiting in batch:
                waiting.say(_unavailable() if away else _raced())
        elif len(batch) > 1:
            # The type alone: a message may quote what must not be logged.
            kind = type(fault).__name__
            logger.warning("%d of %s failed together (%s): each is tried alone", len(batch), tags, kind)
            for waiting in batch:
                await self._see_through([waiting])
        elif not batch[0].answer.done():
            batch[0].answer.set_exception(fault)

    def _ask_again(self, waiting: _Waiting, unheard: NotHeardYet) -> None:
        """Ask once more in a moment, or say what was not heard of."""
        loop = asyncio.get_running_loop()
        if loop.time() > waiting.until:
            waiting.say(unheard.problem)
            return

        def again() -> None:
            self._waiting.append(waiting)
            self._begin()

        loop.call_later(HEARD_POLL_S, again)

    async def _transacted(self, batch: list[_Waiting]) -> list[Any]:
        for left in reversed(range(ASK_TRIES_MAX)):
            try:
                async with self._store.transaction(changes=True) as tx:
                    # Who came while this waited for its turn is decided on with the others.
                    batch += [] if batch else self._take()
                    return await self._in(tx, batch) if batch else []
            except (StaleSnapshot, asyncpg.UniqueViolationError):
                # Another process decides the same: what it wrote is there once we look again.
                if not left:
                    raise
                await asyncio.sleep(RACE_WAIT_S)
        raise AssertionError

    async def _in(self, tx: Transaction, batch: list[_Waiting]) -> list[Any]:
        """Return the answers, in order: as given before under the same key, or as the handler decides."""
        names = {waiting.name for waiting in batch if waiting.name is not None}
        given = await given_before(tx, sorted(names))
        answers: dict[int, Any] = {}
        # Of several under one key the first is decided, and answers for those with the same body.
        first: dict[Name, int] = {}
        fresh: list[int] = []
        for number, waiting in enumerate(batch):
            name = waiting.name
            if name is not None and name in given:
                digest, reply = given[name]
                same = digest == waiting.digest
                answers[number] = (
                    wire.decode(reply, type(waiting.asked.ask).reply) if same else _reused()
                )
            elif name is None or first.setdefault(name, number) == number:
                fresh.append(number)
        kinds: dict[type[Ask], list[int]] = {}
        for number in fresh:
            kinds.setdefault(type(batch[number].asked.ask), []).append(number)
        for kind, numbers in kinds.items():
            asked = [batch[number].asked for number in numbers]
            decided = await self._handlers[kind](asked, tx, self._clock)
            assert len(decided) == len(numbers), "each ask is answered"
            answers |= dict(zip(numbers, decided, strict=True))
        await keep(
            tx,
            [
                (waiting.name, waiting.digest, answers[number])
                for number in fresh
                if (waiting := batch[number]).name is not None
                and not isinstance(answers[number], Problem | NotHeardYet)
            ],
        )
        for number, waiting in enumerate(batch):
            if number not in answers:
                assert waiting.name is not None
                twin = first[waiting.name]
                same = batch[twin].digest == waiting.digest
                answers[number] = answers[twin] if same else _reused()
        return [answers[number] for number in range(len(batch))]


def _tags(batch: Sequence[_Waiting]) -> list[str]:
    return [tag_of(type(waiting.asked.ask)) for waiting in batch]


def _reused() -> Problem:
    detail = "this idempotency key was used for another request; draw a new one"
    return problem(422, "idempotency_key_reused", detail)


def _raced() -> Problem:
    return problem(409, "changed_meanwhile", "it kept changing while this was decided; try again")


def _unavailable() -> Problem:
    detail = "the database or the bus is away; the same ask may be sent again"
    return problem(503, "unavailable", detail, retry_after_s=1)
