"""A reader as a process of its own: as it was (``old``), or knowing one more field and one more type (``new``).

``python -m tests.adapters.old_and_new old|new NATS_URL POSTGRES_DSN FOLDER``
"""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

from mesh_contracts.fact import Fact
from mesh_contracts.identity import NodeEnrolled, ProjectAdmitted
from mesh_contracts.streams import consumers
from meshkit.clock import Clock
from meshkit.handled import Handled
from meshkit.reading import Reading
from meshkit.transaction import Transaction

from tests.adapters.roads import connected, opened

PLACEMENT = next(spec for spec in consumers() if spec.name == "placement_IDENTITY_00")
EFFECTS = "CREATE TABLE effect (fact_id text, key text, version bigint, by text, colour text)"


class GrownProject(Fact, frozen=True, kw_only=True, tag="identity.project.admitted/1"):
    """The same fact, one field later."""

    name: str
    organization_name: str
    colour: str = "none"


KNOWN: dict[str, tuple[type[Fact], ...]] = {
    "old": (ProjectAdmitted,),
    "new": (GrownProject, NodeEnrolled),
}


async def main(which: str, url: str, dsn: str, folder: str) -> None:
    """Read until told to stop, or killed."""

    async def note(fact: Any, tx: Transaction, _clock: Clock) -> None:
        await tx.change(
            "INSERT INTO effect VALUES ($1, $2, $3, $4, $5)",
            *(fact.fact_id, fact.key, fact.version, which, getattr(fact, "colour", None)),
        )

    bus = await connected(Path(folder), url, "placement")
    store = await opened(dsn, "placement")
    reading = Reading(bus, PLACEMENT, Handled(PLACEMENT.name, store, dict.fromkeys(KNOWN[which], note)))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, reading.stop)
    await reading.run()
    await bus.close()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
