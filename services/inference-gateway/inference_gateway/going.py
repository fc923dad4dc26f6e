"""One way an admitted request may go: replicas asked one after the other, two at once where the first is late."""

import asyncio
import math

from mesh_contracts.inference import Tried
from meshkit.telemetry import METRICS

from inference_gateway.attempt import Attempt
from inference_gateway.beside import (
    UNREACHED,
    Beside,
    Caller,
    Failed,
    broken_off,
    may_hedge,
    may_retry,
    outcome_of,
)
from inference_gateway.domain.admission import Held
from inference_gateway.domain.faults import Fault, unavailable
from inference_gateway.domain.names import Way
from inference_gateway.domain.refusals import Refusal, journal_full
from inference_gateway.domain.routing.ask import Ask
from inference_gateway.domain.routing.fleet import Chosen, Outcome
from inference_gateway.domain.routing.hedging import hedge_after
from inference_gateway.domain.sse import EventTooLong
from inference_gateway.http.deciding import Admitted, Door
from inference_gateway.recording import CLIENT_LEFT, Recording
from inference_gateway.relay import EngineRefused, Relay
from inference_gateway.reply import Reply
from inference_gateway.room import Room
from inference_gateway.settings import ATTEMPTS_MAX, FIRST_BYTE_WAIT_S, SIGN_OF_LIFE_S, TRIED_MAX
from inference_gateway.upstream import Broken
from inference_gateway.waiting import Waiting


class Going:
    """One way. ``run`` it once; until the first byte of an engine is relayed, everything can begin anew."""

    def __init__(
        self,
        room: Room,
        door: Door,
        admitted: Admitted,
        way: Way,
        *,
        held: Held,
        recording: Recording,
        to: Caller,
    ) -> None:
        self._room = room
        self._door = door
        self._admitted = admitted
        self._way = way
        self._held = held
        self._recording = recording
        self._to = to
        self._reply: Reply | None = None
        self._tried: list[str] = []
        self._asked: Chosen | None = None
        """Who is asked now and has not begun to answer."""
        self._late: str | None = None
        self._beside: Beside | None = None

    async def run(self, reply: Reply) -> Refusal | None:
        """Ask one replica after the other; return nothing where the client was answered, however it went."""
        self._reply = reply
        refusal: Refusal | None = None
        stale, left = False, ATTEMPTS_MAX
        try:
            while left and len(self._tried) < TRIED_MAX:
                chosen = await self._place(reply)
                if isinstance(chosen, Fault):
                    return refusal or Refusal(chosen, elsewhere=True)
                got = await self._ask(chosen, reply, fresh=stale)
                failed = await self._relay(got, reply) if isinstance(got, Attempt) else got
                if failed is not None and self._beside is not None:
                    # The first gave nothing; the second is on its way already.
                    self._to.await_(FIRST_BYTE_WAIT_S, "engine_first_byte_timeout")
                    await self._beside.wait()
                    failed = await self._take_over(reply, failed)
                if failed is None or not failed.refusal.elsewhere:
                    return None if failed is None else failed.refusal
                refusal = failed.refusal
                if not stale and failed.kind == "stale":
                    # An engine may close a kept connection just as we write: no sign of illness.
                    stale = True
                    continue
                # Whoever could not be reached has not seen the request.
                left -= failed.kind != UNREACHED
                self._note(chosen, failed.kind)
                if not left or not may_retry(self._room.lines, chosen, failed, self._tried):
                    break
            return refusal
        finally:
            if self._beside is not None:
                self._drop_beside()

    def give_up(self, why: str) -> bool:
        """Ask no more of a replica that is late; false where an answer has begun, or nobody is asked."""
        if self._asked is None or self._late is not None or self._to.task is None:
            return False
        self._late = why
        self._to.task.cancel()
        return True

    def hedge(self) -> None:
        """Ask a second replica too, where it may be asked now; else look again in a moment."""
        lines, first = self._room.lines, self._asked
        if first is None or self._beside is not None or not may_hedge(lines, first, self._to):
            return
        got = lines.enter(self._way.route, self._want((*self._tried, first.replica.workload_id)))
        if isinstance(got, Waiting):
            got.leave()
        elif isinstance(got, Chosen):
            METRICS.count("mesh_gateway_hedges_total")
            assert self._reply is not None
            self._beside = Beside(
                lines.loop,
                self._attempt_of(got, self._reply),
                ended=self._beside_ended,
                won=self._beside_won,
            )

    async def _ask(self, chosen: Chosen, reply: Reply, *, fresh: bool) -> Attempt | Failed | None:
        """Ask one replica; return the answer that has begun, or nothing where the client was answered already."""
        self._to.attempts += 1
        attempt = self._attempt_of(chosen, reply)
        if not await self._opened(chosen, reply):
            return None
        self._asked = chosen
        self._to.hedge_at = self._room.lines.loop.time() + hedge_after(self._way.route, chosen)
        try:
            await attempt.begin(fresh=fresh)
        except EngineRefused as refused:
            self._end(chosen, outcome_of(refused.refusal))
            return Failed(refused.refusal, refused.refusal.fault.code)
        except Broken as broken:
            self._end(chosen, "left" if broken.kind == "stale" else "fault")
            return broken_off(broken.kind, self._way.route.name)
        except asyncio.CancelledError:
            if self._cut():
                self._end(chosen, "left" if self._to.why in {None, CLIENT_LEFT} else "fault")
                raise
            return await self._given_up(chosen, reply)
        finally:
            self._asked = None
            self._to.hedge_at = math.inf
        if self._beside is not None:
            self._drop_beside()
        return attempt

    def _cut(self) -> bool:
        """Tell whether the whole call ends, and not only what is asked of one replica."""
        ahead = self._beside is not None and self._beside.ahead is not None
        return self._to.why is not None or (self._late is None and not ahead)

    async def _given_up(self, chosen: Chosen, reply: Reply) -> Failed | None:
        """Go on without this replica: it is too late, or another was faster."""
        late, self._late = self._late, None
        assert self._to.task is not None
        while self._to.task.uncancel():
            pass
        self._asked = None
        if self._beside is not None and self._beside.ahead is not None:
            self._end(chosen, "left")
            self._note(chosen, "slower")
            return await self._take_over(reply)
        assert late is not None
        self._end(chosen, "fault")
        self._to.await_(FIRST_BYTE_WAIT_S, late)
        said = f"The model did not answer in time ({late}). Send the request again."
        return Failed(Refusal(unavailable(late, said), elsewhere=True), late)

    async def _relay(self, attempt: Attempt, reply: Reply) -> Failed | None:
        """Relay an answer that has begun."""
        outcome: Outcome = "left"
        try:
            await attempt.go_on()
            outcome = "ok"
        except EngineRefused as refused:
            outcome = outcome_of(refused.refusal)
            return Failed(refused.refusal, refused.refusal.fault.code)
        except (Broken, EventTooLong) as broken:
            kind = broken.kind if isinstance(broken, Broken) else "too_large"
            outcome = "fault"
            failed = broken_off(kind, self._way.route.name)
            if not reply.said:
                return failed
            await attempt.relay.break_off("engine_lost")
        except asyncio.CancelledError:
            outcome = "left" if self._to.why in {None, CLIENT_LEFT} else "fault"
            raise
        finally:
            attempt.release()
            self._end(attempt.chosen, outcome)
        return None

    async def _take_over(self, reply: Reply, first: Failed | None = None) -> Failed | None:
        """Relay the second replica's answer; where it has none, what the ``first`` said stands."""
        assert self._beside is not None
        begun, self._beside = self._beside.take(), None
        if begun is None:
            return first
        self._to.attempts += 1
        if not await self._opened(begun.chosen, reply):
            begun.release()
            return None
        return await self._relay(begun, reply)

    def _beside_ended(self, attempt: Attempt, outcome: Outcome, why: str | None) -> None:
        self._end(attempt.chosen, outcome)
        if why is not None:
            self._note(attempt.chosen, why)

    def _beside_won(self) -> None:
        if self._asked is not None and self._to.task is not None:
            self._to.task.cancel()

    def _drop_beside(self) -> None:
        beside, self._beside = self._beside, None
        if beside is not None:
            beside.drop()

    async def _place(self, reply: Reply) -> Chosen | Fault:
        """Return a replica that takes the request now, having waited for one where that is worth it."""
        got = self._room.lines.enter(self._way.route, self._want(tuple(self._tried)))
        if not isinstance(got, Waiting):
            return got
        why, loop = self._recording.why, self._room.lines.loop
        since = loop.time()
        why.position = why.position or got.position
        self._counted()
        # The line itself knows how long anybody waits in it.
        self._to.due = math.inf
        signs = SIGN_OF_LIFE_S if self._admitted.wanted.stream else None
        try:
            while (chosen := await got.chosen(signs)) is None:
                await reply.wait()
                self._to.due = math.inf
            return chosen
        finally:
            got.leave()
            why.queue_us += int((loop.time() - since) * 1e6)
            self._to.await_(FIRST_BYTE_WAIT_S, "engine_first_byte_timeout")

    def _want(self, tried: tuple[str, ...]) -> Ask:
        wanted = self._admitted.wanted
        return Ask(
            key_id=self._admitted.entry.key_id,
            tokens=self._held.estimate.tokens,
            session=wanted.session,
            prefix=wanted.fields.get(self._door.operation.needs),
            lora=self._way.lora,
            tried=tried,
            tier=wanted.tier,
        )

    async def _opened(self, chosen: Chosen, reply: Reply) -> bool:
        """Record that this replica's answer is the one; false where the journal is full, and the client told."""
        why, way = self._recording.why, self._way
        why.chosen_by = "canary" if way.canary and chosen.by in {"only", "least_load"} else chosen.by
        why.considered = chosen.considered
        self._counted()
        if self._recording.open(way.route, chosen.replica, self._to.attempts):
            return True
        self._end(chosen, "left")
        await reply.refuse(journal_full())
        return False

    def _counted(self) -> None:
        """Note what the request is counted against, and under which name it came."""
        why = self._recording.why
        why.counted = self._held.counted
        why.asked_as = self._way.asked_as
        why.reserved = self._held.estimate.tokens

    def _attempt_of(self, chosen: Chosen, reply: Reply) -> Attempt:
        wanted = self._admitted.wanted
        return Attempt(
            self._room,
            self._way,
            chosen,
            held=self._held,
            recording=self._recording,
            relay=Relay(self._way.route, wanted, self._recording, reply, self._to.await_),
            path=self._door.operation.path,
            wanted=wanted,
            kept=self._to.kept,
        )

    def _note(self, chosen: Chosen, reason: str) -> None:
        workload_id = chosen.replica.workload_id
        self._tried.append(workload_id)
        self._recording.why.tried.append(Tried(workload_id=workload_id, reason=reason))

    def _end(self, chosen: Chosen, outcome: Outcome) -> None:
        self._room.lines.fleet.end(chosen, self._room.lines.loop.time(), outcome)
