"""One admitted request: asked of a replica, relayed, recorded once, settled once."""

import asyncio
import logging
import math
from contextlib import suppress

import msgspec
from mesh_contracts.inference import Tried, UsageRow
from meshkit.telemetry import METRICS

from inference_gateway.attempt import Attempt
from inference_gateway.domain.faults import Fault, unavailable
from inference_gateway.domain.names import Way
from inference_gateway.domain.refusals import Refusal, journal_full, unreachable
from inference_gateway.domain.routing.ask import Ask
from inference_gateway.domain.routing.fleet import Chosen, Outcome
from inference_gateway.domain.sse import EventTooLong
from inference_gateway.http.deciding import Admitted, Door, admitted, fitting
from inference_gateway.recording import CLIENT_LEFT, STOPPING, Recording
from inference_gateway.relay import EngineRefused, Relay
from inference_gateway.reply import Reply
from inference_gateway.room import Room
from inference_gateway.settings import (
    ATTEMPTS_MAX,
    CLIENT_STUCK_S,
    FIRST_BYTE_WAIT_S,
    SIGN_OF_LIFE_S,
)
from inference_gateway.upstream import Broken
from inference_gateway.waiting import Waiting

BAD_NEWS_WITHIN_S = 1.0

log = logging.getLogger(__name__)


class Failed(msgspec.Struct, frozen=True):
    """Why a replica gave nothing that could be relayed, and in one word how."""

    refusal: Refusal
    kind: str


class Call:
    """One request from its admission to its end. ``run`` it once."""

    def __init__(
        self, room: Room, door: Door, admitted: Admitted, recording: Recording, *, kept: bool
    ) -> None:
        self._room = room
        self._door = door
        self._admitted = admitted
        self._held = admitted.held
        self._wanted = admitted.wanted
        self._recording = recording
        self._kept = kept
        self._loop = room.lines.loop
        self._task: asyncio.Task[object] | None = None
        self._reply: Reply | None = None
        self._attempt = 0
        self._why: str | None = None
        self.due = self._loop.time() + FIRST_BYTE_WAIT_S
        self.due_why = "engine_first_byte_timeout"

    async def run(self, reply: Reply) -> UsageRow | None:
        """Answer the client; return the row (nothing where no replica was asked)."""
        self._task = asyncio.current_task()
        self._reply = reply
        self._room.calls.enter(self)
        try:
            await self._answer(reply)
        except asyncio.CancelledError:
            if self._why is None:
                self._recording.close(STOPPING, started=reply.started)
                raise
            assert self._task is not None
            self._task.uncancel()
            await self._say_cut(self._why, reply)
        except Exception:
            # Our own mistake: the request is still answered, and still has its row.
            log.exception("a call failed here: %s", self._recording.opening.request_id)
            await self._say_cut("gateway_fault", reply)
        finally:
            self._room.calls.leave(self)
            self._recording.close(self._why or "gateway_fault", started=reply.started)
            self._settle()
        return self._recording.row

    def cut(self, why: str) -> None:
        """End the call now, whatever it waits for."""
        if self._why is None and self._task is not None and not (self._reply and self._reply.done):
            self._why = why
            self._task.cancel()

    def left(self) -> None:
        """End the call: its client closed the connection."""
        self.cut(CLIENT_LEFT)

    def wait_for_client(self) -> None:
        """Expect that the client takes what comes next, in time."""
        self._await(CLIENT_STUCK_S, CLIENT_LEFT)

    async def _answer(self, reply: Reply) -> None:
        """Go one way after the other until one answers."""
        refusal: Refusal | None = None
        for number, way in enumerate(self._admitted.ways):
            if number:
                refused = self._turn_to(way)
                if refused is not None:
                    continue
            got = await self._go(way, reply)
            if got is None:
                return
            refusal = refusal or got
            if not got.elsewhere:
                refusal = got
                break
        assert refusal is not None, "there is a way at least"
        if self._recording.admitted and self._recording.row is None:
            self._recording.fail(refusal.fault.status, refusal.fault.code)
        await reply.refuse(refusal.fault)

    def _turn_to(self, way: Way) -> Fault | None:
        """Hold what a fallback may take, instead of what the way before might have."""
        room, route = self._room, way.route
        unfit = fitting((way,), self._wanted, self._door.operation)
        if unfit is not None:
            return unfit
        at, entry = self._admitted.at, self._admitted.entry
        held = admitted(room, entry, self._wanted, operation=self._door.operation, route=route, at=at)
        if isinstance(held, Fault):
            return held
        self._held.settle(0, 0, self._loop.time())
        self._held = held
        return None

    async def _go(self, way: Way, reply: Reply) -> Refusal | None:
        """Ask one replica after the other; nothing is asked twice once an engine's bytes flow."""
        tried: list[str] = []
        refusal: Refusal | None = None
        stale = False
        for _ in range(ATTEMPTS_MAX):
            chosen = await self._place(way, tuple(tried), reply)
            if isinstance(chosen, Fault):
                return refusal or Refusal(chosen, elsewhere=True)
            failed = await self._ask(way, chosen, reply, fresh=stale)
            if failed is None or not failed.refusal.elsewhere:
                return None if failed is None else failed.refusal
            refusal = failed.refusal
            if not stale and failed.kind == "stale":
                # An engine may close a kept connection just as we write: no sign of illness.
                stale = True
                continue
            workload_id = chosen.replica.workload_id
            tried.append(workload_id)
            self._recording.why.tried.append(Tried(workload_id=workload_id, reason=failed.kind))
            METRICS.count("mesh_gateway_retries_total")
        return refusal

    async def _ask(self, way: Way, chosen: Chosen, reply: Reply, *, fresh: bool) -> Failed | None:
        """Ask one replica; return nothing where the client was answered, however it went."""
        outcome: Outcome = "left"
        attempt = self._attempt_of(way, chosen, reply)
        try:
            if not self._recording.open(way.route, chosen.replica, self._attempt):
                await reply.refuse(journal_full())
                return None
            await attempt.run(fresh=fresh)
            outcome = "ok"
        except EngineRefused as refused:
            outcome = _outcome(refused.refusal)
            return Failed(refused.refusal, refused.refusal.fault.code)
        except (Broken, EventTooLong) as broken:
            kind = broken.kind if isinstance(broken, Broken) else "too_large"
            outcome = "left" if kind == "stale" else "fault"
            METRICS.count("mesh_gateway_engine_faults_total", kind=kind)
            if not reply.said:
                return Failed(Refusal(unreachable(way.route.name), elsewhere=True), kind)
            await attempt.relay.break_off("engine_lost")
        except asyncio.CancelledError:
            outcome = "left" if self._why in {None, CLIENT_LEFT} else "fault"
            raise
        finally:
            self._room.lines.fleet.end(chosen, self._loop.time(), outcome)
        return None

    async def _place(self, way: Way, tried: tuple[str, ...], reply: Reply) -> Chosen | Fault:
        """Return a replica that takes the request now, having waited for one where that is worth it."""
        wanted = self._wanted
        ask = Ask(
            key_id=self._admitted.entry.key_id,
            tokens=self._held.estimate.tokens,
            session=wanted.session,
            prefix=wanted.fields.get(self._door.operation.needs),
            lora=way.lora,
            tried=tried,
            tier=wanted.tier,
        )
        got = self._room.lines.enter(way.route, ask)
        if not isinstance(got, Waiting):
            return got
        why = self._recording.why
        since = self._loop.time()
        why.position = why.position or got.position
        # The line itself knows how long anybody waits in it.
        self.due = math.inf
        signs = SIGN_OF_LIFE_S if wanted.stream else None
        try:
            while True:
                chosen = await got.chosen(signs)
                if chosen is not None:
                    return chosen
                await reply.wait()
                self.due = math.inf
        finally:
            got.leave()
            why.queue_us = (why.queue_us or 0) + int((self._loop.time() - since) * 1e6)
            self._await(FIRST_BYTE_WAIT_S, "engine_first_byte_timeout")

    def _explain(self, way: Way, chosen: Chosen) -> None:
        why = self._recording.why
        why.chosen_by = "canary" if way.canary and chosen.by in {"only", "least_load"} else chosen.by
        why.considered = chosen.considered
        why.counted = self._held.counted
        why.asked_as = way.asked_as
        why.reserved = self._held.estimate.tokens

    def _attempt_of(self, way: Way, chosen: Chosen, reply: Reply) -> Attempt:
        self._attempt += 1
        self._explain(way, chosen)
        return Attempt(
            self._room,
            way,
            chosen,
            held=self._held,
            recording=self._recording,
            relay=Relay(way.route, self._wanted, self._recording, reply, self._await),
            path=self._door.operation.path,
            wanted=self._wanted,
            kept=self._kept,
        )

    def _settle(self) -> None:
        """Give back what was held of the limits and not taken."""
        row, now = self._recording.row, self._loop.time()
        if row is None or row.state == "failed":
            self._held.settle(*_taken(row), now)
        else:
            self._held.settle(row.prompt_tokens, row.completion_tokens, now)
        if row is not None:
            self._room.activity.ended(row.endpoint_id, row.completion_tokens or 0, now)

    async def _say_cut(self, why: str, reply: Reply) -> None:
        self._recording.close(why, started=reply.started)
        if why == CLIENT_LEFT or reply.done:
            return
        # Nothing watches this call any more: the client has a moment to take the bad news.
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(BAD_NEWS_WITHIN_S):
                if reply.said:
                    await reply.break_off(why)
                else:
                    said = f"The model did not answer in time ({why}). Send the request again."
                    await reply.refuse(unavailable(why, said))

    def _await(self, seconds: float, why: str) -> None:
        self.due = self._loop.time() + seconds
        self.due_why = why


def _outcome(refusal: Refusal) -> Outcome:
    if refusal.fault.status == 429:
        return "busy"
    return "fault" if refusal.elsewhere else "ok"


def _taken(row: UsageRow | None) -> tuple[int, int]:
    """Return what a request took that no engine answered: nothing, where nothing was counted."""
    return (0, 0) if row is None else (row.prompt_tokens or 0, row.completion_tokens or 0)
