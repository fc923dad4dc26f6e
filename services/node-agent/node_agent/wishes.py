"""What placement wishes of this node: heard as it changes, read again in case it was missed."""

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec
from mesh_contracts import wire
from mesh_contracts.placement import Intent
from mesh_contracts.rights import BEAT
from mesh_contracts.units import NodeId
from meshkit.bucket import Entry
from meshkit.bus import Bus, Message
from meshkit.errors import Unavailable

from node_agent.domain.reconcile import newer

READ_EVERY_S = 30.0
READ_AGAIN_S = 1.0
"""After a read that failed."""

logger = logging.getLogger(__name__)


class Wishes:
    """The newest wish that was seen; ``then`` is called with each newer one.

    A wish that cannot be read (a newer placement's) changes nothing.
    """

    def __init__(self, bus: Bus, node_id: NodeId, then: Callable[[Intent], None]) -> None:
        self._bus = bus
        self._node_id = node_id
        self._then = then
        self._known = (0, 0)
        self._read_now = asyncio.Event()
        self.read = False
        """Whether the bucket was read at least once."""
        self.heard_at = time.monotonic()
        """When placement last said that it is there; it says so each second."""

    async def run(self) -> None:
        """Hear and read for ever. Raises ``PermissionsViolation`` where that is not granted."""
        hearing = await self._bus.subscribe(f"intent.{self._node_id}", self._heard)
        beating = await self._bus.subscribe(f"intent.{BEAT}", self._beat)
        self._bus.on_reconnect(self._reconnected)
        try:
            while True:
                self._read_now.clear()
                read = await self._read()
                try:
                    async with asyncio.timeout(READ_EVERY_S if read else READ_AGAIN_S):
                        await self._read_now.wait()
                except TimeoutError:
                    continue
        finally:
            self._bus.off_reconnect(self._reconnected)
            await hearing.stop()
            await beating.stop()

    async def _reconnected(self) -> None:
        self._read_now.set()

    async def _read(self) -> bool:
        try:
            stored = await self._bus.last("KV_intents", f"$KV.intents.{self._node_id}")
        except Unavailable as fault:
            logger.info("the wish could not be read: %s", fault)
            return False
        self.read = True
        return stored is None or self._seen(stored.sequence, stored.data)

    def _heard(self, message: Message) -> None:
        sequence = message.headers.get("Nats-Sequence", "")
        if not sequence.isdecimal() or not self._seen(int(sequence), message.data):
            self._read_now.set()

    def _beat(self, message: Message) -> None:
        del message
        self.heard_at = time.monotonic()

    def _seen(self, sequence: int, data: bytes) -> bool:
        """Act on a wish that is newer; false where that could not be done and is to be tried again."""
        try:
            entry = wire.decode(data, Entry)
            intent = wire.decode(bytes(entry.value), Intent | None)  # type: ignore[arg-type]
        except msgspec.MsgspecError as fault:
            logger.warning("wish %s cannot be read, and changes nothing: %s", sequence, fault)
            return True
        if not newer(self._known, (entry.epoch, sequence)):
            return True
        wish = Intent(node_id=self._node_id) if intent is None else intent
        try:
            if wish.node_id == self._node_id:
                self._then(wish)
        except OSError as fault:
            logger.error("wish %s cannot be acted on, and is read again: %s", sequence, fault)  # noqa: TRY400
            return False
        self._known = (entry.epoch, sequence)
        return True
