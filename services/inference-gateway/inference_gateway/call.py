"""One admitted request: asked of a replica, relayed, recorded once, settled once."""

import asyncio
import logging
import math
from contextlib import suppress

from mesh_contracts.inference import UsageRow

from inference_gateway.domain.faults import Fault, unavailable
from inference_gateway.domain.names import Way
from inference_gateway.domain.refusals import Refusal
from inference_gateway.going import Going
from inference_gateway.http.deciding import Admitted, Door, admitted, fitting
from inference_gateway.recording import CLIENT_LEFT, STOPPING, Recording
from inference_gateway.reply import Reply
from inference_gateway.room import Room
from inference_gateway.settings import (
    CALL_MAX_S,
    CLIENT_STUCK_S,
    FIRST_BYTE_WAIT_S,
)

BAD_NEWS_WITHIN_S = 1.0

log = logging.getLogger(__name__)


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
        self._loop = room.lines.loop
        self._reply: Reply | None = None
        self._going: Going | None = None
        self.kept = kept
        self.task: asyncio.Task[object] | None = None
        self.attempts = 0
        self.why: str | None = None
        """Why the call is cut, once it is."""
        now = self._loop.time()
        self._until = now + CALL_MAX_S
        self.due = now + FIRST_BYTE_WAIT_S
        self.due_why = "engine_first_byte_timeout"
        self.hedge_at = math.inf

    async def run(self, reply: Reply) -> UsageRow | None:
        """Answer the client; return the row (nothing where it was refused before a replica was asked)."""
        self.task = asyncio.current_task()
        self._reply = reply
        self._room.calls.enter(self)
        try:
            await self._answer(reply)
        except asyncio.CancelledError:
            if self.why is None:
                self._recording.close(STOPPING, started=reply.started)
                raise
            assert self.task is not None
            self.task.uncancel()
            await self._say_cut(self.why, reply)
        except Exception:
            # Our own mistake: the request is still answered, and still has its row.
            log.exception("a call failed here: %s", self._recording.opening.request_id)
            await self._say_cut("gateway_fault", reply)
        finally:
            self._room.calls.leave(self)
            self._recording.close(self.why or "gateway_fault", started=reply.started)
            self._settle()
            # Both point back here: let go of them, so that nobody has to look for circles.
            self._going = self._reply = self.task = None
        return self._recording.row

    def cut(self, why: str) -> None:
        """End the call now, whatever it waits for."""
        if self.why is None and self.task is not None and not (self._reply and self._reply.done):
            self.why = why
            self.task.cancel()

    def look(self, now: float) -> None:
        """Do what is due: give up what has waited too long, ask another replica where the first is late."""
        if now >= self._until:
            self.cut("time_limit")
        elif now >= self.due:
            if self._going is None or not self._going.give_up(self.due_why):
                self.cut(self.due_why)
        elif now >= self.hedge_at:
            self.hedge_at = math.inf
            if self._going is not None:
                self._going.hedge()

    def left(self) -> None:
        """End the call: its client closed the connection."""
        self.cut(CLIENT_LEFT)

    def wait_for_client(self) -> None:
        """Expect that the client takes what comes next, in time."""
        self.await_(CLIENT_STUCK_S, CLIENT_LEFT)

    async def _answer(self, reply: Reply) -> None:
        """Go one way after the other until one answers."""
        refusal: Refusal | None = None
        for number, way in enumerate(self._admitted.ways):
            if number:
                refused = self._turn_to(way)
                if refused is not None:
                    continue
            self._going = Going(
                self._room,
                self._door,
                self._admitted,
                way,
                held=self._held,
                recording=self._recording,
                to=self,
            )
            got = await self._going.run(reply)
            if got is None:
                return
            refusal = refusal or got
            if not got.elsewhere:
                refusal = got
                break
        assert refusal is not None, "there is a way at least"
        if self._recording.row is None and (self._recording.admitted or reply.started):
            self._recording.fail(200 if reply.started else refusal.fault.status, refusal.fault.code)
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

    def _settle(self) -> None:
        """Give back what was held of the limits and not taken."""
        row, now = self._recording.row, self._loop.time()
        if row is None or row.state == "failed" or not row.attempts:
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

    def await_(self, seconds: float, why: str) -> None:
        """Expect what comes next within so many seconds; ``why`` says what it means if it does not."""
        self.due = self._loop.time() + seconds
        self.due_why = why


def _taken(row: UsageRow | None) -> tuple[int, int]:
    """Return what a request took that no engine answered: nothing, where nothing was counted."""
    return (0, 0) if row is None else (row.prompt_tokens or 0, row.completion_tokens or 0)
