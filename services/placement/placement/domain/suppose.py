"""What would be, as it is asked and answered: changes of the site in the engine's words, its answer in people's."""

from collections.abc import Callable, Sequence

import msgspec
from mesh_contracts.placement import (
    AddNodes,
    Breach,
    CapDomain,
    Change,
    Displaced,
    Explanation,
    LoseDomain,
    Move,
    Moves,
    Scored,
    Seat,
)
from mesh_contracts.placement.nouns import MigInstance

from placement.domain.engine import wish as engine_wish
from placement.domain.engine.choose import Rated
from placement.domain.engine.defrag import Plan
from placement.domain.engine.engine import Engine
from placement.domain.engine.explain import explain
from placement.domain.engine.mig import first_of
from placement.domain.engine.whatif import Answer, lost, more_like, what_if
from placement.domain.engine.wish import Capped, Input, NodeTurned, Placed, Refused, Wish
from placement.domain.wishes import power_domain


class Unknown(msgspec.Struct, frozen=True):
    """The change of this number names a part of the site, or a node, that is not there."""

    number: int
    field: str
    name: str


def inputs_of(
    engine: Engine, changes: Sequence[Change], nodes: dict[str, str]
) -> list[Input] | Unknown:
    """Return changes as the engine is given them; ``nodes`` are ids by name and by id."""
    found: list[Input] = []
    for number, one in enumerate(changes):
        match one:
            case LoseDomain():
                gone = _lost(engine, one, nodes)
                if not gone:
                    return Unknown(number, "domain", one.domain)
                found += gone
            case CapDomain():
                domain = power_domain(one.level, one.domain)
                if one.level != "site" and domain not in engine.site.domains[one.level]:
                    return Unknown(number, "domain", one.domain)
                found.append(Capped(level=one.level, domain=domain, watts=one.watts))
            case AddNodes():
                node = nodes.get(one.like, "")
                if node not in engine.site.row_of:
                    return Unknown(number, "like", one.like)
                found += more_like(engine, node, one.nodes)
    return found


def answer(
    engine: Engine,
    changes: Sequence[Input],
    wish: Wish,
    *,
    site: str,
    called: Callable[[str], str],
    others: bool,
    at: int,
) -> Explanation:
    """Return where a wish would go after the changes, and what else they would do.

    ``called`` gives a node's name by its id; ``others``: whether the reader may know whose work is in the way.
    """
    would = what_if(engine, changes, (wish,), at=at)
    (outcome,) = would.decisions
    assert isinstance(outcome, Placed | Refused), "it does not wait: it is only asked"
    told = explain(would.engine.site, wish, outcome, called=called, others=others)
    shown = Explanation(
        fits=isinstance(outcome, Placed),
        survivors=told.survivors,
        reasons=told.reasons,
        displaced=_displaced(engine, would, called),
        ends=list(would.shed.workloads),
        breaches=_breaches(would, site),
    )
    if isinstance(outcome, Refused):
        return shown
    seats = [_seat(wish, one, called) for one in outcome.seats]
    return msgspec.structs.replace(
        shown,
        node=seats[0].node,
        seats=seats,
        best=_scored(would.engine, outcome.why.best, called),
        second=_scored(would.engine, outcome.why.second, called),
    )


def _seat(wish: Wish, one: engine_wish.Seat, called: Callable[[str], str]) -> Seat:
    mig = MigInstance(profile=wish.size.mig, start=first_of(one.slices)) if one.slices else None
    return Seat(node=called(one.node), gpus=list(one.cards), gpu_milli_each=one.milli_each, mig=mig)


def moves_of(engine: Engine, found: Plan, called: Callable[[str], str]) -> Moves:
    """Return a plan of moves as it is shown; ``called`` gives a node's name by its id."""
    items = []
    for one in found.moves:
        holding = engine.holdings[one.workload]
        before = engine.site.specs[holding.parts[one.member].row].node
        kind = holding.wish.kind
        assert kind != "lease", "a lease stays where it is"
        items.append(
            Move(
                id=one.workload,
                kind=kind,
                from_node=called(before),
                to_node=called(one.to.node),
                gpus=list(one.to.cards),
            )
        )
    gain = found.gain_milli
    return Moves(items=items, before=found.before, after=found.after, gain_gpu_milli=gain)


def _lost(engine: Engine, change: LoseDomain, nodes: dict[str, str]) -> list[Input]:
    if change.level == "node":
        node = nodes.get(change.domain, "")
        return [NodeTurned(node=node, closed=True)] if node in engine.site.row_of else []
    if change.level == "site":
        return [NodeTurned(node=spec.node, closed=True) for spec in engine.site.specs]
    return lost(engine, change.level, change.domain)


def _displaced(engine: Engine, would: Answer, called: Callable[[str], str]) -> list[Displaced]:
    found = []
    for one in would.displaced:
        seats = one.outcome.seats if isinstance(one.outcome, Placed) else ()
        found.append(
            Displaced(
                id=one.workload,
                kind=engine.holdings[one.workload].wish.kind,
                fits=isinstance(one.outcome, Placed),
                nodes=sorted({called(seat.node) for seat in seats}),
            )
        )
    return found


def _breaches(would: Answer, site: str) -> list[Breach]:
    return [
        msgspec.convert(
            {"level": level, "domain": site if level == "site" else domain, "over_w": watts}, Breach
        )
        for level, domain, watts in would.shed.left
    ]


def _scored(engine: Engine, rated: Rated | None, called: Callable[[str], str]) -> Scored | None:
    if rated is None:
        return None
    return Scored(
        node=called(engine.site.specs[rated.row].node),
        score=rated.score,
        gain=rated.gain,
        left=rated.left,
        power=rated.power,
        bias=rated.bias,
    )
