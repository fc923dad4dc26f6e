"""What was decided once, had again where it comes out otherwise now: it stands, whatever is decided today."""

from placement.domain.engine.engine import Engine
from placement.domain.engine.wish import (
    Asked,
    Found,
    Input,
    NodesLost,
    NodeTurned,
    Outcome,
    Placed,
    Released,
    Replaced,
    Reseated,
)


def alone(given: Input) -> bool:
    """Return whether an input decides about nobody but the workload it names."""
    return isinstance(given, Asked) and not given.instead_of


def as_decided(engine: Engine, given: Input, decided: Outcome) -> list[Input]:
    """Return the inputs that have ``engine``, as it was before ``given``, be as was decided then."""
    match given, decided:
        case Asked(), Placed():
            ends: list[Input] = [Released(workload=one, at=given.at) for one in given.instead_of]
            return [*ends, Found(wish=given.wish, seats=decided.seats, at=given.at)]
        case Asked(), _:
            return []
        case NodesLost(), Replaced():
            return _replaced(engine, given, decided)
        case _:
            return [given]


def _replaced(engine: Engine, given: NodesLost, decided: Replaced) -> list[Input]:
    site = engine.site
    turned: list[Input] = []
    for node in given.nodes:
        silent = bool(site.silent[site.row_of[node]])
        turned.append(NodeTurned(node=node, closed=True, silent=silent))
    ends: list[Input] = []
    sits: list[Input] = []
    for one in decided.outcomes:
        if isinstance(one, Reseated) or one.released:
            ends.append(Released(workload=one.workload, at=given.at))
        if isinstance(one, Reseated):
            holding = engine.holdings[one.workload]
            anew = len(one.members) == len(one.seats)
            at = given.at if anew else holding.at
            sits.append(Found(wish=holding.wish, seats=one.seats, at=at))
    return [*turned, *ends, *sits]
