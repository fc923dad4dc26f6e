"""The service under the end-to-end measurement: placement itself, and one more ask that reserves a seat.

``python -m mesh_tools.bench.placement.reserving`` is told by its environment, as placement is. The ask does
what every ask that places does, and nothing that is only some kind of work's own: the engine decides, the
tables' sums are taken, the decision is written down, a fact is told, and it is answered once that is committed.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
import uvloop
from mesh_contracts.ask import Ask, Problem
from mesh_contracts.fact import born_of
from mesh_contracts.placement import WorkloadAssigned
from mesh_contracts.units import derived_id
from meshkit.clock import Clock
from meshkit.config import StoreSettings, load
from meshkit.store import Transaction
from meshkit.together import Asked as TogetherAsked
from placement import memory, nodes
from placement.app import assemble
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.wish import Asked, Placed, Wish
from placement.domain.wishes import milliseconds
from placement.sums import Take


class Reserved(msgspec.Struct, frozen=True, kw_only=True):
    """Where the seat is."""

    workload_id: str
    node_id: str
    cards: list[int]


class Reserve(Ask, frozen=True, kw_only=True, tag="placement.bench.reserve"):
    """Wish for one seat."""

    permission: ClassVar[str] = "mesh.operate"
    reply: ClassVar[Any] = Reserved
    changes: ClassVar[bool] = True

    gpus: int = 0
    gpu_milli: int = 0
    memory_mib: int = 256


FULL = Problem(title="No room", status=409, code="no_room", detail="it fits nowhere now")


async def reserve(asked: Sequence[TogetherAsked], tx: Transaction, clock: Clock) -> list[Any]:
    """Reserve a seat for each, in the order in which they came."""
    now = clock.now()
    site = asked[0].ask.site
    held = await memory.hold(tx, site)
    answers: list[Any] = []
    takes: list[Take] = []
    facts: list[WorkloadAssigned] = []
    for ask, principal in asked:
        workload_id = derived_id("workload", ask.asked_at, ask.ask_id)
        wish = Wish(
            workload=workload_id,
            organization="bench",
            project="bench",
            kind="job",
            size=Size(gpus=ask.gpus, gpu_milli=ask.gpu_milli, memory_mib=ask.memory_mib),
            terms=Terms(jurisdictions=("FR",), tenant=principal.principal_id),
        )
        outcome = held.apply(Asked(wish=wish, at=milliseconds(now)))
        if not isinstance(outcome, Placed):
            answers.append(FULL)
            continue
        [seat] = outcome.seats
        takes.append(Take(seat.node, ask.memory_mib, seat.cards, seat.milli_each))
        born = born_of(ask, now, WorkloadAssigned, key=workload_id)
        facts.append(
            WorkloadAssigned(
                **born,
                workload_id=workload_id,
                endpoint_id=workload_id.replace("workload", "endpoint"),
                node_id=seat.node,
                reasons=[],
            )
        )
        answers.append(Reserved(workload_id=workload_id, node_id=seat.node, cards=list(seat.cards)))
    if takes:
        await nodes.take(tx, site, takes)
        await tx.tell_all(facts)
    return answers


def main() -> None:
    """Serve until told to stop."""
    service = assemble(load(StoreSettings))
    service.answers_together(Reserve, reserve)
    uvloop.run(service.run())


if __name__ == "__main__":
    main()
