"""The bus' own door: says to nats-server which node may connect, and with which rights.

The server asks on ``$SYS.REQ.USER.AUTH`` about everybody whom its configuration does not name. A
known node gets its rights in the nodes' account for a while, a new one with a join token may ask to
be enrolled, everybody else is refused.
"""

import asyncio
import logging
from collections import OrderedDict
from pathlib import Path

from mesh_contracts.identity import JoinToken
from mesh_contracts.keytext import digest_of, role_in
from mesh_contracts.rights import CALLOUT_SUBJECT, NODES_ACCOUNT, joining_rights, node_rights
from mesh_contracts.units import Site
from meshkit import usertoken
from meshkit.bus import Bus, Message
from meshkit.clock import Clock
from meshkit.config import read_secret
from meshkit.errors import ConfigError, Unavailable
from meshkit.store import Store
from meshkit.telemetry import METRICS
from meshkit.usertoken import CalloutInvalid, Request
from nkeys import KeyPair

from identity import store
from identity.domain.joining import LetIn, LetJoin, Node, TurnAway, is_public_key, let_in

ANSWERS_AT_ONCE_MAX = 32
WAITING_MAX = 4_096
"""Callers whose answer is not ready; past it the next are left to try again."""
JOINING_LIFE_S = 60
"""How long a node with a join token has to ask for its enrolment."""
NODES_HELD_MAX = 100_000
"""Nodes remembered for when the database is away."""
REFUSALS_LOGGED_EVERY_S = 1.0

logger = logging.getLogger(__name__)


def read_signer(path: Path) -> KeyPair:
    """Return the key that signs bus users. Raises ``ConfigError`` where the file holds none."""
    try:
        return usertoken.key_pair(read_secret(path).reveal())
    except ValueError as fault:
        raise ConfigError(f"{path} holds no nkey seed of an account (SA…)") from fault


class Callout:
    """Answers the server for as long as it runs."""

    def __init__(
        self, bus: Bus, owner: Store, *, signer: KeyPair, site: Site, life_s: int, clock: Clock
    ) -> None:
        self._bus = bus
        self._store = owner
        self._signer = signer
        self._site = site
        self._life_s = life_s
        self._clock = clock
        self._slots = asyncio.Semaphore(ANSWERS_AT_ONCE_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: OrderedDict[str, Node] = OrderedDict()
        self._logged_at = float("-inf")
        self.listening = False

    async def run(self) -> None:
        """Listen until cancelled. Raises ``PermissionsViolation`` where that is not granted."""
        listening = await self._bus.subscribe(CALLOUT_SUBJECT, self._heard)
        self.listening = True
        try:
            await asyncio.Event().wait()
        finally:
            self.listening = False
            await listening.stop()
            for task in self._tasks:
                task.cancel()

    def _heard(self, message: Message) -> None:
        if len(self._tasks) >= WAITING_MAX:
            METRICS.count("mesh_callouts_total", verdict="refused", reason="overrun")
            return
        task = asyncio.create_task(self._answer(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, message: Message) -> None:
        try:
            request = usertoken.read_request(message.data)
        except CalloutInvalid as fault:
            METRICS.count("mesh_callouts_total", verdict="refused", reason="unreadable")
            logger.warning("a callout request is let go: %s", fault)
            return
        async with self._slots:
            verdict = await self._verdict(request)
        now_s = int(self._clock.now().timestamp())
        if isinstance(verdict, TurnAway):
            self._say(request, verdict)
            answer = usertoken.response(self._signer, request, now_s=now_s, refusal=verdict.reason)
        else:
            admitted = "node" if isinstance(verdict, LetIn) else "joining"
            METRICS.count("mesh_callouts_total", verdict=admitted, reason="")
            user = self._user(request, verdict, now_s)
            answer = usertoken.response(self._signer, request, now_s=now_s, user=user)
        await self._bus.publish(message.reply, answer)

    async def _verdict(self, request: Request) -> LetIn | LetJoin | TurnAway:
        # What costs nothing is looked at first: strangers must not cost a query each.
        proven = is_public_key(request.public_key) and request.proven()
        if not proven:
            return let_in(None, None, self._clock.now(), proven=False)
        try:
            node, token = await self._known(request)
        except Unavailable:
            held = self._held.get(request.public_key)
            return LetIn(held) if held is not None else TurnAway("database-away")
        return let_in(node, token, self._clock.now(), proven=True)

    async def _known(self, request: Request) -> tuple[Node | None, JoinToken | None]:
        key = request.public_key
        async with self._store.transaction() as tx:
            node = await store.node(tx, key)
            if node is None and role_in(request.token) == "join":
                return None, await store.token(tx, digest_of(request.token))
        if node is None:
            self._held.pop(key, None)
            return None, None
        self._held[key] = node
        self._held.move_to_end(key)
        while len(self._held) > NODES_HELD_MAX:
            self._held.popitem(last=False)
        return node, None

    def _user(self, request: Request, verdict: LetIn | LetJoin, now_s: int) -> str:
        key = request.public_key
        if isinstance(verdict, LetIn):
            node = verdict.node
            name, life_s = node.node_id, self._life_s
            rights = node_rights(node.site, node.node_id, key)
        else:
            name, life_s = f"joining {key[:8]}", JOINING_LIFE_S
            rights = joining_rights(self._site, key)
        return usertoken.user_token(
            self._signer,
            user_nkey=request.user_nkey,
            account=NODES_ACCOUNT,
            name=name,
            rights=rights,
            now_s=now_s,
            life_s=life_s,
        )

    def _say(self, request: Request, verdict: TurnAway) -> None:
        METRICS.count("mesh_callouts_total", verdict="refused", reason=verdict.reason)
        if self._clock.monotonic() - self._logged_at >= REFUSALS_LOGGED_EVERY_S:
            self._logged_at = self._clock.monotonic()
            key = request.public_key or "no key"
            logger.warning("turned away from the bus: %s at %s (%s)", key, request.host, verdict.reason)
