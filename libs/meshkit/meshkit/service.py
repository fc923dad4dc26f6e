"""A service: what it reads, answers, watches and runs, wired once and run until told to stop."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mesh_contracts.ask import Ask, Principal, Problem
from mesh_contracts.fact import Fact
from meshkit.bucket import Watched
from meshkit.bus import Bus
from meshkit.clock import Clock
from meshkit.config import Settings
from meshkit.store import Store, Transaction

F = TypeVar("F", bound=Fact)
A = TypeVar("A", bound=Ask)
S = TypeVar("S", bound=msgspec.Struct)

FactHandler = Callable[[F, Transaction, Clock], Awaitable[None]]
AskHandler = Callable[[A, Principal, Transaction, Clock], Awaitable[Any]]
"""Returns the reply or a ``Problem``; a problem rolls the transaction back."""
Snapshot = Callable[[Transaction], Awaitable[Mapping[str, msgspec.Struct]]]


class Service:
    """One service of the mesh. Declare with ``reads`` … ``runs``, then ``run``."""

    bus: Bus
    store: Store

    def __init__(
        self, owner: str, settings: Settings, *, clock: Clock | None = None, migrations: Path | None = None
    ) -> None:
        raise NotImplementedError

    def reads(self, kind: type[F], handler: FactHandler[F]) -> None:
        """Handle facts of ``kind``, each once, in order per key (it must stand in the contracts' table)."""
        raise NotImplementedError

    def answers(self, kind: type[A], handler: AskHandler[A], *, after_puts: bool = False) -> None:
        """Answer asks of ``kind``. With ``after_puts`` only once its bucket puts are acknowledged."""
        raise NotImplementedError

    def writes(self, bucket: str, snapshot: Snapshot) -> None:
        """Own a bucket: ``snapshot`` gives all it should hold; the difference is put at start."""
        raise NotImplementedError

    def watches(self, bucket: str) -> Callable[[], Watched[Any]]:
        """Hold a bucket in memory; the call returns it once the service has started."""
        raise NotImplementedError

    def hears(self, noun: str, handler: Callable[[Any], None]) -> None:
        """Call ``handler(sample)`` for each sample (``agent.heartbeat``) of this site; may be lost."""
        raise NotImplementedError

    def runs(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run ``work`` beside the doors until the stop; where it raises it is begun again, with backoff."""
        raise NotImplementedError

    def needs(self, name: str, ready: Callable[[], str | None]) -> None:
        """Be ready only while ``ready()`` returns nothing; a text says what is missing."""
        raise NotImplementedError

    async def start(self) -> None:
        """Open every door. Raises ``ConfigError``, ``Unavailable``, ``PermissionsViolation``."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Drain, finish, acknowledge: within ``STOP_WITHIN_S`` (5 s)."""
        raise NotImplementedError

    async def run(self) -> None:
        """Start, serve until SIGTERM or SIGINT, stop."""
        raise NotImplementedError
