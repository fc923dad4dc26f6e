"""``/v1/tokenize`` and ``/v1/messages/count_tokens``: an engine counts and answers nothing."""

from mesh_contracts.identity import AccessEntry
from mesh_contracts.placement import Replica, Route

from inference_gateway.domain.dialects import MESSAGES, Dialect, tokenize
from inference_gateway.domain.faults import UNREADABLE, Fault
from inference_gateway.domain.records import Opening
from inference_gateway.domain.refusals import malformed, refusal_of, unreachable
from inference_gateway.domain.routing.ask import Ask
from inference_gateway.domain.routing.fleet import Chosen, Outcome
from inference_gateway.domain.stream import Usage
from inference_gateway.http.deciding import Deciding
from inference_gateway.http.wire import (
    JSON,
    ClientLeft,
    Headers,
    Receive,
    Scope,
    Send,
    fault_headers,
    send_whole,
)
from inference_gateway.recording import Recording
from inference_gateway.room import Room
from inference_gateway.settings import ANSWER_BYTES_MAX
from inference_gateway.upstream import Broken

UNKNOWN_TO_ENGINE = frozenset({404, 405, 501})


class Counting:
    """Asks one replica how many tokens a text has. The request is recorded, with nought tokens used."""

    def __init__(self, room: Room, deciding: Deciding) -> None:
        self._room = room
        self._deciding = deciding

    async def __call__(
        self,
        scope: Scope,
        given: dict[bytes, bytes],
        receive: Receive,
        send: Send,
        headers: Headers,
    ) -> None:
        """Answer one request."""
        path: str = scope["path"]
        dialect = MESSAGES if path == tokenize.COUNT_PATH else None
        try:
            counted = await self._counted(scope, given, receive, headers, dialect)
        except ClientLeft:
            return
        if isinstance(counted, Fault):
            request_id = headers[0][1].decode()
            body = counted.body() if dialect is None else dialect.refusal(counted, request_id)
            await send_whole(send, counted.status, [*headers, *fault_headers(counted)], body)
            return
        body = tokenize.answer(counted) if dialect is None else tokenize.answer_count(counted)
        await send_whole(send, 200, [*headers, JSON], body)

    async def _counted(
        self,
        scope: Scope,
        given: dict[bytes, bytes],
        receive: Receive,
        headers: Headers,
        dialect: Dialect | None,
    ) -> tokenize.Counted | Fault:
        came = await self._deciding.let_in(scope, given, receive, dialect)
        if isinstance(came, Fault):
            return came
        entry, raw = came
        text = tokenize.read(raw) if dialect is None else tokenize.read_count(raw)
        if isinstance(text, Fault):
            return text
        route = self._deciding.route_of(entry, text.model)
        if isinstance(route, Fault):
            return route
        ask = Ask(key_id=entry.key_id, tokens=len(raw))
        chosen = await self._room.lines.place(route, ask)
        if isinstance(chosen, Fault):
            return chosen
        return await self._recorded(entry, route, chosen, text, (scope["path"], headers[0][1].decode()))

    async def _recorded(
        self,
        entry: AccessEntry,
        route: Route,
        chosen: Chosen,
        text: tokenize.Text,
        named: tuple[str, str],
    ) -> tokenize.Counted | Fault:
        room = self._room
        assert entry.project is not None
        assert entry.organization is not None
        opening = Opening(
            request_id=named[1],
            organization=entry.organization,
            project=entry.project,
            key_id=entry.key_id,
            endpoint_id=route.endpoint_id,
            model=route.name,
            route=named[0],
            streamed=False,
            started_at=room.clock.now(),
            admitted_epoch=room.meter.epoch,
        )
        recording = Recording(room.meter, room.clock, opening, began=room.lines.loop.time())
        recording.why.chosen_by, recording.why.considered = chosen.by, chosen.considered
        outcome: Outcome = "left"
        try:
            if not recording.open(route, chosen.replica, 1):
                return unreachable(route.name)
            answer = await self._asked(route, chosen.replica, text)
            outcome = "fault" if isinstance(answer, Fault) and answer.status >= 500 else "ok"
            if isinstance(answer, Fault):
                recording.fail(answer.status, answer.code)
            else:
                recording.complete(Usage())
            return answer
        finally:
            recording.close("client_left", started=False)
            room.lines.fleet.end(chosen, room.lines.loop.time(), outcome)

    async def _asked(
        self, route: Route, replica: Replica, text: tokenize.Text
    ) -> tokenize.Counted | Fault:
        step: tokenize.Question | tokenize.Counted = tokenize.ask(text, route.engine, route.model_id)
        while isinstance(step, tokenize.Question):
            try:
                exchange = await self._room.upstreams.send(
                    replica, step.path, step.body, None, whole=True
                )
            except Broken:
                return unreachable(route.name)
            try:
                await exchange.begun()
                raw = await exchange.whole(ANSWER_BYTES_MAX)
                if exchange.status in UNKNOWN_TO_ENGINE:
                    return tokenize.unanswered(route.name)
                if exchange.status != 200:
                    return refusal_of(exchange.status, raw, route.name).fault
                step = tokenize.hear(step, raw)
            except Broken:
                return unreachable(route.name)
            except UNREADABLE:
                return malformed()
            finally:
                exchange.release()
        return step
