"""Samples: core NATS, may be lost; for pictures and signals, never for a ledger."""

import logging
from collections.abc import Callable
from typing import Any

import msgspec
from mesh_contracts import wire
from mesh_contracts.streams import SAMPLES

from meshkit.bus import Bus, Message, Subscription
from meshkit.telemetry import METRICS

logger = logging.getLogger(__name__)


async def hear_samples(bus: Bus, noun: str, site: str, handler: Callable[[Any], None]) -> Subscription:
    """Call ``handler`` for each sample of ``noun`` (``agent.heartbeat``) at ``site``.

    What cannot be decoded, speaks of another node than its subject (which is all that the bus
    checks), or makes the handler fail is counted and let go.
    """
    kind = SAMPLES[noun]

    def heard(message: Message) -> None:
        try:
            sample: Any = wire.decode(message.data, kind)
        except msgspec.DecodeError:
            METRICS.count("mesh_samples_refused_total", noun=noun)
            return
        if sample.node_id != message.subject.rpartition(".")[2]:
            METRICS.count("mesh_samples_refused_total", noun=noun)
            return
        try:
            handler(sample)
        except Exception:
            METRICS.count("mesh_samples_failed_total", noun=noun)
            logger.exception("a sample of %s was not handled", noun)

    return await bus.subscribe(f"sample.{noun}.{site}.>", heard)
