"""What is told of a site and decides nothing by itself: nodes, caps, draws, and what is expected."""

from typing import TYPE_CHECKING

from placement.domain.engine.wish import (
    Capped,
    Expected,
    Known,
    Measured,
    NodePut,
    NodeTurned,
    Weighed,
)

if TYPE_CHECKING:
    from placement.domain.engine.engine import Engine


def know(engine: "Engine", given: Known) -> None:
    """Have an engine know what it is told. Raises ``ValueError``, with nothing changed, for what cannot be."""
    match given:
        case NodePut():
            _put(engine, given)
        case NodeTurned():
            row = engine.site.row_of.get(given.node)
            if row is None:
                raise ValueError(f"there is no node {given.node}")
            engine.site.turn(row, closed=given.closed, silent=given.silent)
        case Capped():
            engine.power.cap(given.level, given.domain, given.watts)
        case Measured():
            engine.power.measured(given.level, given.domain, given.watts)
        case Expected():
            engine.expect(given)
        case Weighed():
            engine.watt_weight = given.watt


def _put(engine: "Engine", given: NodePut) -> None:
    spec = given.spec
    row = engine.site.row_of.get(spec.node)
    if row is not None and engine.tenancy.tied(row, spec.place):
        raise ValueError(f"{spec.node} would leave or enter a tenant's own part: drain it first")
    engine.site.put(spec)
    engine.power.rebuild()
    engine.meet_models()
