"""A journal's facts on their way to their streams: in order per key, each until it is kept."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import msgspec
from mesh_contracts import wire
from mesh_contracts.fact import Fact
from mesh_contracts.streams import FACT_BY_TAG

from meshkit.bus import Bus
from meshkit.errors import MeshError, PermissionsViolation
from meshkit.publishing import publish_fact
from meshkit.telemetry import METRICS

AWAY_WAIT_S: Final = 0.1
REFUSED_WAIT_S: Final = 2.0

logger = logging.getLogger(__name__)


class Letter(msgspec.Struct, frozen=True, array_like=True):
    """A fact as the journal keeps it: what the bus needs, and its bytes."""

    subject: str
    key: str
    fact_id: str
    traceparent: str | None
    payload: bytes

    def fact(self) -> Fact | None:
        """Return the fact, or nothing where this process does not know its type."""
        kind = FACT_BY_TAG.get(wire.tag_in(self.payload))
        return None if kind is None else wire.decode(self.payload, kind)


async def send_letters(bus: Bus, letters: Sequence[tuple[int, Letter]]) -> tuple[set[int], float]:
    """Publish letters side by side, but those of one key one after the other.

    Returns the positions of those that must be sent again, and how long to wait before (seconds).
    """
    chains: dict[str, list[tuple[int, Letter]]] = {}
    for position, letter in letters:
        chains.setdefault(letter.key, []).append((position, letter))
    sent: set[int] = set()
    waits = await asyncio.gather(*(_send_chain(bus, chain, sent) for chain in chains.values()))
    return {position for position, _ in letters} - sent, max(waits)


async def _send_chain(bus: Bus, chain: Sequence[tuple[int, Letter]], sent: set[int]) -> float:
    for position, letter in chain:
        try:
            await publish_fact(
                bus, letter.subject, letter.payload, msg_id=letter.fact_id, parent=letter.traceparent
            )
        except MeshError as fault:
            METRICS.count("mesh_journal_failed_total")
            refused = isinstance(fault, PermissionsViolation)
            level = logging.ERROR if refused else logging.DEBUG
            logger.log(level, "%s waits in the journal: %s", letter.subject, fault)
            return REFUSED_WAIT_S if refused else AWAY_WAIT_S
        sent.add(position)
    return 0.0
