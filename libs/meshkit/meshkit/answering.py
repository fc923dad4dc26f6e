"""The side that answers: an ask is checked, given to its handler, and answered or refused in time."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from mesh_contracts import wire
from mesh_contracts.ask import EVERYBODY, Ask, Principal, Problem, subject_of_ask
from mesh_contracts.fact import tag_of
from opentelemetry.trace import SpanKind

from meshkit import semconv
from meshkit.bus import Bus, Message, Subscription
from meshkit.calling import ERROR, ERROR_CODE
from meshkit.discovery import QUEUE, Discovery, Endpoint
from meshkit.errors import MessageTooLarge, PrincipalInvalid, Unavailable
from meshkit.principal import unseal
from meshkit.telemetry import METRICS, span

ASKS_MAX = 256
"""Asks answered at once by one process; past it the answer is 503 ``busy``."""
STOP_WITHIN_S = 2.0
ERROR_TEXT_MAX = 200
NUL = b"\\u0000"
"""How JSON writes it: its only way in."""

Handler = Callable[[Any, Principal], Awaitable[Any]]
"""Returns the reply or a ``Problem``."""

NOBODY = "nobody"

logger = logging.getLogger(__name__)


class Served:
    """A service that answers asks, until ``stop``."""

    def __init__(self, bus: Bus, owner: str, site: str, handlers: Mapping[type[Ask], Handler]) -> None:
        self._bus = bus
        self._tasks: set[asyncio.Task[None]] = set()
        self._doors = []
        for kind, handler in handlers.items():
            tag = tag_of(kind)
            assert getattr(kind, "permission", None), f"{tag} names no permission: it is never answered"
            endpoint = Endpoint(tag.replace(".", "-"), subject_of_ask(kind, site, owner))
            self._doors.append(_Door(bus, kind, handler, endpoint, self._tasks))
        self._discovery = Discovery(bus, bus.user, [door.endpoint for door in self._doors])
        self._subscriptions: list[Subscription] = []

    async def start(self) -> None:
        """Begin to answer. Raises ``PermissionsViolation`` where an ask is not ours to answer."""
        for door in self._doors:
            self._subscriptions.append(
                await self._bus.subscribe(door.endpoint.subject, door.heard, queue=QUEUE)
            )
        await self._discovery.start()

    async def stop(self) -> None:
        """Take no more asks; answer those at work, within ``STOP_WITHIN_S``."""
        await self._discovery.stop()
        await asyncio.gather(*(subscription.drain() for subscription in self._subscriptions))
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=STOP_WITHIN_S)
            for task in late:
                task.cancel()


async def serve(bus: Bus, owner: str, site: str, handlers: Mapping[type[Ask], Handler]) -> Served:
    """Return ``handlers`` answering the asks of ``owner`` at ``site``. Raises ``PermissionsViolation``.

    Before a handler is called, its ask is decoded, in time, and of a principal who may.
    """
    served = Served(bus, owner, site, handlers)
    await served.start()
    return served


class _Door:
    """One kind of ask."""

    def __init__(
        self,
        bus: Bus,
        kind: type[Ask],
        handler: Handler,
        endpoint: Endpoint,
        tasks: set[asyncio.Task[None]],
    ) -> None:
        self.endpoint = endpoint
        self._bus = bus
        self._kind = kind
        self._tag = tag_of(kind)
        self._site = endpoint.subject.rpartition(".")[2]
        self._handler = handler
        self._tasks = tasks

    def heard(self, message: Message) -> None:
        """Begin to answer, in a task of its own."""
        if not message.reply:
            return
        if len(self._tasks) >= ASKS_MAX:
            self._answer(message, _problem(503, "busy", "Too busy", "try again in a moment"))
            return
        task = asyncio.ensure_future(self._handle(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, message: Message) -> None:
        began = time.perf_counter_ns()
        try:
            answer = await self._answered(message)
        except asyncio.CancelledError:
            # It stops, and the asker had rather know at once.
            self._answer(message, _problem(503, "unavailable", "Not available now", "try again"))
            raise
        if answer is not None:
            self._answer(message, answer)
            took = time.perf_counter_ns() - began
            code = answer.code if isinstance(answer, Problem) else None
            self.endpoint.count(took, code)
            METRICS.count("mesh_asks_answered_total", tag=self._tag, outcome=code or "answered")
            METRICS.observe("mesh_ask_seconds", took / 1e9, tag=self._tag)

    async def _answered(self, message: Message) -> Any | Problem | None:
        try:
            ask = wire.decode(message.data, self._kind)
        except msgspec.DecodeError as fault:
            return _problem(400, "bad_ask", "The request is malformed", f"correct it: {fault}")
        if holds_nul(message.data):
            detail = "no text may hold the character NUL (\\u0000): leave it out"
            return _problem(422, "invalid_text", "A text cannot be kept", detail)
        if ask.site != self._site:
            detail = (
                f"it was sent to the site {self._site} and names {ask.site}: name the one it is sent to"
            )
            return _problem(400, "bad_ask", "The request is malformed", detail)
        if ask.deadline <= self._bus.clock.now():
            # Nobody waits any more.
            METRICS.count("mesh_asks_late_total", tag=self._tag)
            return None
        attributes = {
            semconv.MESSAGING_SYSTEM: semconv.MESSAGING_SYSTEM_NATS,
            semconv.MESH_ASK_TAG: self._tag,
        }
        with span(
            f"answer {self._tag}", kind=SpanKind.SERVER, parent=ask.traceparent, attributes=attributes
        ) as at:
            answer = await self._decided(ask)
            outcome = answer.code if isinstance(answer, Problem) else "answered"
            at.set_attribute(semconv.MESH_OUTCOME, outcome)
            return answer

    async def _decided(self, ask: Ask) -> Any | Problem:
        now = self._bus.clock.now()
        permission = self._kind.permission
        if permission == EVERYBODY:
            principal = Principal(principal_id=NOBODY, role=NOBODY, expires_at=ask.deadline)
        else:
            try:
                principal = unseal(ask.principal, self._bus.secret, now)
            except PrincipalInvalid as fault:
                METRICS.count("mesh_asks_unsealed_total", tag=self._tag)
                return _problem(401, "principal_invalid", "Nobody vouches for this request", str(fault))
            if not principal.may(permission):
                detail = f"this needs the permission {permission}; use a key whose role has it"
                return _problem(403, "forbidden", "Not allowed", detail)
        try:
            return await self._handler(ask, principal)
        except Unavailable as fault:
            logger.warning("%s was not answered: %s", self._tag, fault)
            return _problem(503, "unavailable", "Not available now", "try again in a moment")
        except Exception:
            logger.exception("%s failed", self._tag)
            return _internal()

    def _answer(self, message: Message, answer: Any | Problem) -> None:
        headers = None
        if isinstance(answer, Problem):
            headers = {ERROR: _one_line(answer.title), ERROR_CODE: str(answer.status)}
        try:
            data = wire.encode(answer)
        except Exception:
            # Our own mistake, but nobody should wait in vain for it.
            logger.exception("the answer to %s cannot be encoded", self._tag)
            self._answer(message, _internal())
            return
        try:
            self._bus.send(message.reply, data, headers=headers)
        except MessageTooLarge:
            detail = "ask for fewer items at once"
            self._answer(message, _problem(413, "answer_too_large", "The answer is too large", detail))
        except Unavailable:
            METRICS.count("mesh_asks_unanswered_total", tag=self._tag)


def holds_nul(raw: bytes) -> bool:
    """Tell whether JSON holds the character NUL in a text, which no database keeps."""
    at = raw.find(NUL)
    while at >= 0:
        # An odd number of backslashes in front of the u: the last of them makes it an escape.
        begin = at
        while begin and raw[begin - 1 : begin] == b"\\":
            begin -= 1
        if (at - begin) % 2 == 0:
            return True
        at = raw.find(NUL, at + 1)
    return False


def _problem(status: int, code: str, title: str, detail: str) -> Problem:
    retry_after_s = 1 if status == 503 else None
    return Problem(title=title, status=status, code=code, detail=detail, retry_after_s=retry_after_s)


def _internal() -> Problem:
    detail = "this is a fault of the service, and in its log; trying again may work"
    return _problem(500, "internal", "The service failed", detail)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:ERROR_TEXT_MAX]
