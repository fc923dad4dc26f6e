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

LOOKED_UP_AT_ONCE_MAX = 256
"""Callers looked up by one query: after a restart of the bus a whole hall comes at once."""
LOOKED_UP_WITHIN_S = 1.2
"""Less than a node waits for the bus to let it in; past it the database counts as away."""
WAITING_MAX = 4_096
"""Callers whose answer is not ready; past it the next are left to try again."""
JOINING_LIFE_S = 60
"""How long a node with a join token has to ask for its enrolment."""
NODES_HELD_MAX = 100_000
"""Nodes remembered for when the database is away."""
REFUSALS_LOGGED_EVERY_S = 1.0

Verdict = LetIn | LetJoin | TurnAway
Nodes = dict[str, Node]
Tokens = dict[str, JoinToken]

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
        self._waiting: asyncio.Queue[Message] = asyncio.Queue(WAITING_MAX)
        self._held: OrderedDict[str, Node] = OrderedDict()
        self._looking: asyncio.Task[tuple[Nodes, Tokens]] | None = None
        self._logged_at = float("-inf")
        self.listening = False

    async def run(self) -> None:
        """Listen until cancelled. Raises ``PermissionsViolation`` where that is not granted."""
        listening = await self._bus.subscribe(CALLOUT_SUBJECT, self._heard)
        self.listening = True
        try:
            while True:
                await self._answer(await self._next())
        finally:
            self.listening = False
            if self._looking is not None:
                self._looking.cancel()
            await listening.stop()

    def _heard(self, message: Message) -> None:
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            METRICS.count("mesh_callouts_total", verdict="refused", reason="overrun")

    async def _next(self) -> list[Message]:
        batch = [await self._waiting.get()]
        while len(batch) < LOOKED_UP_AT_ONCE_MAX and not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        return batch

    async def _answer(self, batch: list[Message]) -> None:
        asked = [(message, found) for message in batch if (found := _read(message)) is not None]
        verdicts = await self._verdicts([request for _, request in asked])
        now_s = int(self._clock.now().timestamp())
        for message, request in asked:
            answer = self._response(request, verdicts[request.user_nkey], now_s)
            await self._bus.publish(message.reply, answer)
            # A signature takes a while: others on this loop get their turn between two.
            await asyncio.sleep(0)

    async def _verdicts(self, requests: list[Request]) -> dict[str, Verdict]:
        """Return what each caller gets, by its connection's key."""
        # What costs nothing is looked at first: strangers must not cost a query.
        proven = [one for one in requests if is_public_key(one.public_key) and one.proven()]
        unproven = let_in(None, None, self._clock.now(), proven=False)
        verdicts: dict[str, Verdict] = {one.user_nkey: unproven for one in requests}
        if not proven:
            return verdicts
        digests = {
            one.user_nkey: digest_of(one.token) for one in proven if role_in(one.token) == "join"
        }
        try:
            nodes, tokens = await self._known(
                [one.public_key for one in proven], list(digests.values())
            )
        except Unavailable:
            for one in proven:
                held = self._held.get(one.public_key)
                verdicts[one.user_nkey] = TurnAway("database-away") if held is None else LetIn(held)
            return verdicts
        now = self._clock.now()
        for one in proven:
            node, token = nodes.get(one.public_key), tokens.get(digests.get(one.user_nkey, ""))
            self._hold(one.public_key, node)
            verdicts[one.user_nkey] = let_in(node, token, now, proven=True)
        return verdicts

    async def _known(self, keys: list[str], digests: list[str]) -> tuple[Nodes, Tokens]:
        """Return what the database knows of them. Raises ``Unavailable``, also where it hangs."""
        if self._looking is not None and not self._looking.done():
            raise Unavailable("the database has not answered the last query yet")
        self._looking = asyncio.create_task(self._look_up(keys, digests))
        done, _ = await asyncio.wait({self._looking}, timeout=LOOKED_UP_WITHIN_S)
        if not done:
            # Left to its own bound: what hangs would hold back its cancelling, too.
            self._looking.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise Unavailable(f"the database does not answer within {LOOKED_UP_WITHIN_S:g} s")
        return self._looking.result()

    async def _look_up(self, keys: list[str], digests: list[str]) -> tuple[Nodes, Tokens]:
        async with self._store.transaction() as tx:
            nodes = await store.nodes(tx, keys)
            tokens = await store.tokens(tx, digests) if digests else {}
        return nodes, tokens

    def _hold(self, public_key: str, node: Node | None) -> None:
        self._held.pop(public_key, None)
        if node is not None:
            self._held[public_key] = node
            while len(self._held) > NODES_HELD_MAX:
                self._held.popitem(last=False)

    def _response(self, request: Request, verdict: Verdict, now_s: int) -> bytes:
        if isinstance(verdict, TurnAway):
            self._say(request, verdict)
            return usertoken.response(self._signer, request, now_s=now_s, refusal=verdict.reason)
        admitted = "node" if isinstance(verdict, LetIn) else "joining"
        METRICS.count("mesh_callouts_total", verdict=admitted, reason="")
        user = self._user(request, verdict, now_s)
        return usertoken.response(self._signer, request, now_s=now_s, user=user)

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


def _read(message: Message) -> Request | None:
    try:
        return usertoken.read_request(message.data)
    except CalloutInvalid as fault:
        METRICS.count("mesh_callouts_total", verdict="refused", reason="unreadable")
        logger.warning("a callout request is let go: %s", fault)
        return None
