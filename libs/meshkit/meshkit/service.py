"""A service: what it reads, answers, watches and runs, wired once and run until told to stop."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from mesh_contracts.ask import Ask, ListDeadLetters, Principal, RedriveDeadLetter
from mesh_contracts.fact import Fact
from mesh_contracts.streams import READS, USERS, bucket

from meshkit import telemetry, vitals
from meshkit.answering import Handler, Served, serve
from meshkit.bucket import Watched
from meshkit.bus import Bus
from meshkit.clock import Clock, SystemClock
from meshkit.config import Settings, StoreSettings, read_secret
from meshkit.doors import AskDoor
from meshkit.leading import Lead, take_turn
from meshkit.ops import Ops, serve_ops
from meshkit.roads import Roads, Snapshot
from meshkit.samples import hear_samples
from meshkit.store import Store, Transaction
from meshkit.tasks import Supervised, Work, first_of
from meshkit.together import TogetherDoor, TogetherHandler

F = TypeVar("F", bound=Fact)
A = TypeVar("A", bound=Ask)
S = TypeVar("S", bound=msgspec.Struct)

FactHandler = Callable[[F, Transaction, Clock], Awaitable[None]]
AskHandler = Callable[[A, Principal, Transaction, Clock], Awaitable[Any]]
"""Returns the reply or a ``Problem``; a problem rolls the transaction back."""
STOP_WITHIN_S: Final = 5.0

logger = logging.getLogger(__name__)


class Service:
    """One service of the mesh. Declare with ``reads`` … ``runs``, then ``run``."""

    bus: Bus
    store: Store
    ops: Ops

    def __init__(
        self,
        owner: str,
        settings: Settings,
        *,
        clock: Clock | None = None,
        migrations: Path | None = None,
        user: str | None = None,
    ) -> None:
        self.owner = owner
        self.settings = settings
        self.clock: Clock = clock or SystemClock()
        self.user = user or USERS.get(owner, owner)
        self._migrations = migrations
        self._stored = isinstance(settings, StoreSettings)
        self._reads: dict[type[Fact], FactHandler[Any]] = {}
        self._answers: dict[type[Ask], Callable[[], Handler]] = {}
        self._together: dict[type[Ask], TogetherHandler] = {}
        self._writes: dict[str, Snapshot] = {}
        self._watches: dict[str, Watched[Any] | None] = {}
        self._turns = False
        self._hears: list[tuple[str, Callable[[Any], None]]] = []
        self._runs: list[tuple[str, Work]] = []
        self._needs: dict[str, Callable[[], str | None]] = {}
        self._tasks = Supervised()
        self._served: Served | None = None
        self._roads: Roads | None = None
        self._alone: tuple[Work, Work] | None = None
        self._lead: Lead | None = None
        self._leading: asyncio.Task[None] | None = None
        self._open = asyncio.Event()
        self._started = False
        self._stopping = False
        self._told_to_stop = asyncio.Event()

    def reads(self, kind: type[F], handler: FactHandler[F]) -> None:
        """Handle facts of ``kind``, each once, in order per key (it must stand in the contracts' table)."""
        assert self._stored, "only a service with a database reads facts"
        assert kind in READS.get(self.owner, ()), (
            f"{kind.__name__} is not in the table READS of {self.owner}"
        )
        self._reads[kind] = handler

    def answers(self, kind: type[A], handler: AskHandler[A], *, after_puts: bool = False) -> None:
        """Answer asks of ``kind``. With ``after_puts`` only once its bucket puts are acknowledged.

        In a process without a database the handler is given ``None`` for its transaction.
        """
        self._answers[kind] = lambda: AskDoor(
            handler,
            clock=self.clock,
            store=self.store if self._stored else None,
            relay=self._roads.relay if self._roads is not None else None,
            after_puts=after_puts,
        )

    def answers_together(self, kind: type[A], handler: TogetherHandler) -> None:
        """Answer asks of ``kind`` that come within a few milliseconds, with others so answered, in one transaction."""
        assert self._stored, "only a service with a database has transactions"
        self._together[kind] = handler

    def decides_alone(self) -> None:
        """Have facts and asks that change something wait for their turn: one decision at a time is all there is."""
        assert self._stored, "only a service with a database has transactions"
        self._turns = True

    def writes(self, bucket: str, snapshot: Snapshot) -> None:
        """Own a bucket: ``snapshot`` gives all it should hold; the difference is put at start."""
        assert self._stored, "only a service with a database writes a bucket"
        self._writes[bucket] = snapshot

    def watches(self, bucket: str) -> Callable[[], Watched[Any]]:
        """Hold a bucket in memory; the call returns it once the service has started."""
        self._watches[bucket] = None

        def watched() -> Watched[Any]:
            held = self._watches[bucket]
            assert held is not None, "the service has not started"
            return held

        return watched

    def hears(self, noun: str, handler: Callable[[Any], None]) -> None:
        """Call ``handler(sample)`` for each sample (``agent.heartbeat``) of this site; may be lost."""
        self._hears.append((noun, handler))

    def runs(self, name: str, work: Work) -> None:
        """Run ``work`` beside the doors until the stop; where it raises it is begun again, with backoff."""
        self._runs.append((name, work))

    def needs(self, name: str, ready: Callable[[], str | None]) -> None:
        """Be ready only while ``ready()`` returns nothing; a text says what is missing."""
        self._needs[name] = ready

    def leads(self, follow: Work, prepare: Work) -> None:
        """Serve only while no other process of this owner does; see ``meshkit.leading``.

        ``follow`` catches up once, and is called again and again while this one stands by; ``prepare`` before its doors open.
        """
        assert self._stored, "who leads stands in the database"
        self._alone = (follow, prepare)

    async def start(self) -> None:
        """Open every door, or stand by until another process leaves off.

        Raises ``ConfigError``, ``Unavailable``, ``PermissionsViolation``.
        """
        telemetry.start(self.user, self.settings)
        secret = read_secret(self.settings.mesh_secret_file)
        self.ops = await serve_ops(
            self.settings.mesh_ops_port,
            live=self._dead,
            ready=self._missing,
            metrics=telemetry.METRICS.expose,
        )
        connecting = Bus.connect(self.settings, user=self.user, clock=self.clock, secret=secret)
        self.bus, _ = await asyncio.gather(connecting, self._open_store())
        for name in self._watches:
            self._watches[name] = await Watched.open(self.bus, name)
        for noun, handler in self._hears:
            await hear_samples(self.bus, noun, self.settings.mesh_site, handler)
        if self._stored:
            self._roads = Roads(self.owner, self.store, self.bus, self._tasks)
            self._roads.watch()
        if self._alone is None:
            await self._open_doors()
        else:
            self._lead = Lead(self.store)
            turn = take_turn(self._lead, *self._alone, self._open_doors)
            self._leading = asyncio.create_task(turn, name="lead")
            await first_of(self._leading, self._lead.looked, self._open)
        self._tasks.begin("vitals", lambda: vitals.watch(lambda: self._watches))
        self._started = True
        logger.info("%s %s", self.user, "has started" if self._open.is_set() else "stands by")

    async def stop(self) -> None:
        """Drain, finish, acknowledge: within ``STOP_WITHIN_S`` (5 s)."""
        self._stopping = True
        if self._served is not None:
            await self._served.stop()
        await self._tasks.stop("relay", "reader")
        if self._roads is not None:
            await self._roads.close()
        await self._tasks.stop()
        if self._lead is not None and self._leading is not None:
            self._leading.cancel()
            await self._lead.let_go()
        for watched in self._watches.values():
            if watched is not None:
                await watched.close()
        await self.bus.close()
        if self._stored:
            await self.store.close()
        await self.ops.close()
        telemetry.stop()

    async def run(self) -> None:
        """Start, serve until SIGTERM or SIGINT, stop.

        Exits with 1 where the bus closed for ever, or another process has taken over.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop.set)
        starting = asyncio.create_task(self.start())
        told = asyncio.create_task(self._told_to_stop.wait())
        await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            return
        starting.result()
        closed = asyncio.create_task(self.bus.closed.wait())
        ends = {told, closed} | (set() if self._leading is None else {self._leading})
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        gone = not told.done()
        why = "the bus closed for ever" if closed.done() else "this process does not lead any more"
        told.cancel()
        closed.cancel()
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await self.stop()
        except TimeoutError:
            logger.error("%s did not stop within %s s; leaving", self.user, STOP_WITHIN_S)  # noqa: TRY400
        if gone and not self._told_to_stop.is_set():
            logger.error("%s; leaving so that whoever runs us starts us again", why)
            raise SystemExit(1)

    async def _open_doors(self) -> None:
        """Begin to tell, to read, to answer, and what runs beside."""
        if self._roads is not None:
            door = self._roads.open(self._reads, self._writes)
            self.answers(ListDeadLetters, door.listed)
            self.answers(RedriveDeadLetter, door.redriven)
        doors = {kind: door() for kind, door in self._answers.items()}
        if self._together:
            together = TogetherDoor(self._together, clock=self.clock, store=self.store)
            doors |= dict.fromkeys(self._together, together)
        if doors:
            self._served = await serve(self.bus, self.owner, self.settings.mesh_site, doors)
        for name, work in self._runs:
            self._tasks.begin(name, work)
        self._open.set()

    async def _open_store(self) -> None:
        if isinstance(self.settings, StoreSettings):
            self.store = await Store.connect(
                self.settings.postgres_dsn,
                owner=self.owner,
                clock=self.clock,
                migrations=self._migrations,
            )
            if self._turns:
                self.store.take_turns()

    def _dead(self) -> list[str]:
        closed = self._started and self.bus.closed.is_set()
        return ["the bus is closed for ever"] if closed else []

    def _missing(self) -> list[str]:
        if not self._started:
            return ["it has not started"]
        missing = [] if not self._stopping else ["it is stopping"]
        if not self.bus.connected:
            missing.append("the bus is away")
        if self._roads is not None and self._roads.away is not None:
            missing.append(self._roads.away)
        if self._lead is not None and self._lead.epoch and not self._open.is_set():
            missing.append("it leads, and does not serve yet")
        missing += [
            f"bucket {name}: no snapshot yet"
            for name, held in self._watches.items()
            if held is None or not held.ready
        ]
        for name, ready in self._needs.items():
            text = ready()
            if text is not None:
                missing.append(f"{name}: {text}")
        return missing


__all__ = ["STOP_WITHIN_S", "AskHandler", "FactHandler", "Service", "Snapshot", "bucket"]
