"""A second replica asked beside one that is late, or after it; and how a replica's failure is put."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from meshkit.telemetry import METRICS

from inference_gateway.attempt import Attempt
from inference_gateway.domain.refusals import Refusal, unreachable
from inference_gateway.domain.routing.fleet import Chosen, Outcome
from inference_gateway.relay import EngineRefused
from inference_gateway.upstream import Broken
from inference_gateway.waiting import Lines

UNREACHED = "engine_unreachable"
"""What is noted of a replica that could not even be connected to."""


NOT_AGAIN = "mesh_gateway_not_again_total"
"""What would have been asked twice, had not enough been."""

LOOK_AGAIN_S = 1.0
"""How soon it is looked again whether a second replica may be asked, where it might not."""


class Caller(Protocol):
    """The call this is a way of."""

    task: asyncio.Task[object] | None
    kept: bool
    attempts: int
    why: str | None
    due: float
    hedge_at: float

    def await_(self, seconds: float, why: str) -> None:
        """Expect what comes next within so many seconds."""
        ...


class Failed(msgspec.Struct, frozen=True):
    """Why a replica gave nothing that could be relayed, and in one word how."""

    refusal: Refusal
    kind: str


class Beside:
    """The second replica, asked from the moment this is made. ``ahead`` is its answer once that has begun.

    ``ended`` is told how it went where it does not answer, and ``won`` is called where it does.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        attempt: Attempt,
        *,
        ended: Callable[[Attempt, Outcome, str | None], None],
        won: Callable[[], None],
    ) -> None:
        self._attempt = attempt
        self._ended = ended
        self._won = won
        self.ahead: Attempt | None = None
        self._task = loop.create_task(self._ask())

    async def wait(self) -> None:
        """Return once it is known how it goes."""
        await asyncio.wait({self._task})

    def take(self) -> Attempt | None:
        """Return its answer, which is then the taker's to release."""
        ahead, self.ahead = self.ahead, None
        return ahead

    def drop(self) -> None:
        """Ask nothing more of it."""
        self._task.cancel()
        ahead = self.take()
        if ahead is not None:
            ahead.release()
            self._ended(ahead, "left", None)

    async def _ask(self) -> None:
        try:
            await self._attempt.begin(fresh=False)
        except EngineRefused as refused:
            self._ended(self._attempt, outcome_of(refused.refusal), refused.refusal.fault.code)
        except Broken as broken:
            outcome: Outcome = "left" if broken.kind == "stale" else "fault"
            self._ended(self._attempt, outcome, kind_of(broken.kind))
        except asyncio.CancelledError:
            self._ended(self._attempt, "left", None)
            raise
        else:
            self.ahead = self._attempt
            self._won()


def may_hedge(lines: Lines, first: Chosen, to: Caller) -> bool:
    """Count a second replica beside a late one; false where none is well, or there were enough. Then ``to`` asks again."""
    now = lines.loop.time()
    if lines.fleet.elsewhere(first, now):
        if lines.fleet.hedge(first, now):
            return True
        METRICS.count(NOT_AGAIN, kind="hedge")
    to.hedge_at = now + LOOK_AGAIN_S
    return False


def may_retry(lines: Lines, failed_at: Chosen, failed: Failed, tried: Sequence[str]) -> bool:
    """Count a retry on another replica; false where there were enough."""
    pool = failed_at.pool
    # Whoever could not be reached has not seen the request; and where all were tried none is made.
    if failed.kind != UNREACHED and any(one.id not in tried for one in pool.states):
        queued = lines.queued(pool.route.endpoint_id)
        if not lines.fleet.retry(failed_at, lines.loop.time(), queued):
            METRICS.count(NOT_AGAIN, kind="retry")
            return False
    METRICS.count("mesh_gateway_retries_total")
    return True


def broken_off(kind: str, model: str) -> Failed:
    """Return what it means that an exchange with a replica broke."""
    METRICS.count("mesh_gateway_engine_faults_total", kind=kind)
    return Failed(Refusal(unreachable(model), elsewhere=True), kind_of(kind))


def kind_of(broken: str) -> str:
    """Return how a broken exchange is called in an explanation."""
    return broken if broken == "stale" else f"engine_{broken}"


def outcome_of(refusal: Refusal) -> Outcome:
    """Return what a refusal says of the replica that gave it."""
    if refusal.fault.status == 429:
        return "busy"
    return "fault" if refusal.elsewhere else "ok"
