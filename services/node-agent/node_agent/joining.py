"""How a node comes to belong: its own bus key, a join token once, then the rights of one node."""

import asyncio
import logging
import os
import random
from pathlib import Path

import msgspec
from mesh_contracts.ask import Problem
from mesh_contracts.identity import Enrolment, EnrolNode
from mesh_contracts.rights import node_inbox_of
from mesh_contracts.units import NodeId
from meshkit.bus import Bus
from meshkit.clock import Clock
from meshkit.config import Secret, read_secret
from meshkit.errors import ConfigError, PermissionsViolation, Unavailable
from meshkit.usertoken import key_pair, new_seed

from node_agent.runtimes.kept import write_whole
from node_agent.settings import AgentSettings

REFUSED_WAIT_S = 2.0
REFUSED_WAIT_MAX_S = 30.0
JITTER = 0.5
RENEW_FROM = 0.5
RENEW_UNTIL = 0.8
"""Credentials are renewed at a random point of this part of their life: not all nodes at once."""

FILE = "enrolment.json"
NEW_TOKEN = "AGENT_JOIN_TOKEN_FILE names a file with a join token (mesh join-token create)"  # noqa: S105 - no token

logger = logging.getLogger(__name__)


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of an enrolment."""

    node_id: NodeId
    public_key: str


class NotEnrolled(Exception):
    """Identity did not enrol the node; the message says why."""


def own_key(path: Path) -> str:
    """Return the public part of the node's own bus key, made on the first call.

    Raises ``ConfigError`` where the file holds something else.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = path.with_name(f"{path.name}.new")
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(new_seed("user") + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    try:
        public: bytes = key_pair(read_secret(path).reveal()).public_key
    except ValueError as fault:
        raise ConfigError(
            f"{path} holds no nkey seed of a user (SU…); delete it, the node enrols anew"
        ) from fault
    return public.decode()


class Joining:
    """Gets the node onto the bus, and keeps it there."""

    def __init__(self, settings: AgentSettings, clock: Clock, chance: random.Random) -> None:
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._file = settings.agent_data_dir / FILE
        self._public_key = own_key(settings.bus_key)
        self.said = "it has not connected yet"
        """What keeps the node out, for people."""

    async def join(self) -> tuple[Bus, NodeId]:
        """Return the bus, with this node's rights, and its id; tries without end.

        Raises ``ConfigError`` where the node is not enrolled and has no join token.
        """
        wait = REFUSED_WAIT_S
        refused = False
        while True:
            member = self.member()
            try:
                if member is not None and not refused:
                    return await self._connect(None), member.node_id
                return await self._enrol(self._token())
            except (PermissionsViolation, NotEnrolled, Unavailable) as fault:
                # An enrolled node that is refused shows its token next: the mesh may have forgotten it.
                refused = member is not None and not refused and self._has_token()
                self.said = str(fault)
                pause = wait + self._chance.uniform(0, wait * JITTER)
                logger.warning("not let onto the bus: %s; tried again in %.1f s", fault, pause)
                await asyncio.sleep(pause)
                wait = min(wait * 2, REFUSED_WAIT_MAX_S)

    async def renew(self, bus: Bus) -> None:
        """Renew the right to be connected before it ends, for ever."""
        life = self._settings.agent_credential_life_s
        while True:
            await asyncio.sleep(life * self._chance.uniform(RENEW_FROM, RENEW_UNTIL))
            try:
                await bus.renew()
            except Unavailable as fault:
                logger.warning("the right to be connected was not renewed yet: %s", fault)

    async def _connect(self, token: str | None) -> Bus:
        try:
            return await Bus.connect(
                msgspec.structs.replace(self._settings, nats_credentials=self._settings.bus_key),
                user=self._settings.agent_name,
                clock=self._clock,
                secret=Secret(""),
                inbox_prefix=node_inbox_of(self._public_key),
                token=token,
            )
        except PermissionsViolation as fault:
            why = (
                "its key is not known any more"
                if token is None
                else "the join token may be unknown, used up or expired"
            )
            raise NotEnrolled(f"{why}; {NEW_TOKEN}") from fault

    async def _enrol(self, token: Secret) -> tuple[Bus, NodeId]:
        bus = await self._connect(token.reveal())
        try:
            node_id = await self._ask(bus, token)
            bus.drop_token()
            await bus.renew()
        except BaseException:
            await bus.close()
            raise
        return bus, node_id

    async def _ask(self, bus: Bus, token: Secret) -> NodeId:
        answer: Enrolment | Problem = await bus.ask(
            EnrolNode(
                **bus.wish(""),
                join_token=token.reveal(),
                public_key=self._public_key,
                name=self._settings.agent_name,
            )
        )
        if isinstance(answer, Problem):
            raise NotEnrolled(f"{answer.title}: {answer.detail}")
        member = Member(node_id=answer.node_id, public_key=self._public_key)
        write_whole(self._file, msgspec.json.encode(member))
        logger.info("enrolled as %s", answer.node_id)
        return answer.node_id

    def member(self) -> Member | None:
        """Return what is kept of the enrolment of this very key, or nothing."""
        try:
            member = msgspec.json.decode(self._file.read_bytes(), type=Member)
        except (OSError, msgspec.MsgspecError):
            return None
        return member if member.public_key == self._public_key else None

    def _has_token(self) -> bool:
        path = self._settings.agent_join_token_file
        return path is not None and path.exists()

    def _token(self) -> Secret:
        path = self._settings.agent_join_token_file
        if path is None:
            raise ConfigError(f"this node is not enrolled; {NEW_TOKEN}")
        return read_secret(path)
