"""What must not change a decision does not: constraints that do not bind, names, and the order of nodes."""

from itertools import count

import pytest
from msgspec.structs import replace
from placement.domain.engine.engine import Engine
from placement.domain.engine.site import POWER
from placement.domain.engine.size import Terms
from placement.domain.engine.snapshot import HeldState, Snapshot
from placement.domain.engine.wish import (
    Asked,
    Capped,
    Input,
    NodePut,
    Outcome,
    Placed,
    Refused,
    Released,
    SeatsLost,
)

from tests.domain.placement_draws import FLAVOURS, Draws, Flavour
from tests.domain.placement_twin import Twin
from tests.domain.test_placement_oracle import befall

STEPS = 60
LOOSE = Terms(jurisdictions=("DE", "FR", ""), assurances=("hds",), tenant="ada")


def lived(seed: int, flavour: Flavour) -> Twin:
    """Return a site after a while."""
    draws, twin = Draws(seed, flavour), Twin()
    for given in draws.site():
        twin.tell(given)
    for _ in range(STEPS):
        draw = draws.chance.random()
        if draw < 0.2:
            befall(twin, draws.happens())
        elif draw < 0.4 and twin.world.held:
            workload = draws.chance.choice(list(twin.world.held))
            twin.tell(Released(workload=workload, at=0))
        elif draw < 0.5 and (gangs := [one for one in twin.world.held if one.startswith("g")]):
            lost = SeatsLost(workload=draws.chance.choice(gangs), members=(1,), at=0)
            twin.tell(lost)
        elif draw < 0.65:
            gang = replace(draws.wish(), workload=f"g{len(twin.log)}", members=2, elastic=True)
            twin.tell(Asked(wish=gang, at=0))
        else:
            wish = replace(draws.wish(), workload=f"w{len(twin.log)}")
            twin.tell(Asked(wish=wish, at=0))
    return twin


def bounded(given: Input, loose: Engine) -> list[Input]:
    """Return an input with everything switched on that does not bind, and what switches it on."""
    match given:
        case NodePut(spec=spec):
            told: list[Input] = [NodePut(spec=replace(spec, assurances=("hds",), gpu_w=100, idle_w=20))]
            loose.apply(told[0])
            return told + [
                Capped(level=level, domain=domain, watts=most_w(loose, level, domain))
                for level in POWER
                for domain in loose.site.domains[level]
            ]
        case Asked(wish=wish):
            return [Asked(wish=replace(wish, terms=LOOSE), at=given.at)]
    return [given]


def most_w(engine: Engine, level: str, domain: str) -> int:
    """Return what a domain draws with all its GPUs in use."""
    nodes = [spec for spec in engine.site.specs if spec.place.get(level, "site") == domain]
    return sum(spec.idle_w + spec.gpus * spec.gpu_w for spec in nodes)


@pytest.mark.parametrize("seed", range(6))
def test_caps_tenants_and_terms_that_do_not_bind_change_no_placement(seed: int) -> None:
    given = [one for one, _ in lived(seed, "room").log]
    plain, bound, loose = Engine(), Engine(), Engine()
    decided = 0
    for one in given:
        outcome = plain.apply(one)
        for told in bounded(one, loose):
            last: Outcome = bound.apply(told)
        if isinstance(one, Asked):
            decided += 1
            assert isinstance(outcome, Placed) == isinstance(last, Placed)
            if isinstance(outcome, Placed) and isinstance(last, Placed):
                assert last.seats == outcome.seats
                assert last.why.failed[:-1] == outcome.why.failed[:-1]
    assert decided > STEPS // 4


def shuffled(snapshot: Snapshot, draws: Draws) -> Snapshot:
    """Return the same site with its nodes in another order and by other names."""
    site = snapshot.site
    order = draws.chance.sample(range(len(site.specs)), len(site.specs))
    row_of = dict(zip(order, count(), strict=False))
    holdings = [
        HeldState(
            replace(held.wish, home=(), dislike=()),
            tuple(replace(part, row=row_of[part.row]) for part in held.parts),
            held.at,
        )
        for held in snapshot.holdings
    ]
    moved = replace(
        site,
        specs=[replace(site.specs[row], node=f"other-{row_of[row]}") for row in order],
        closed=[row_of[row] for row in site.closed],
        silent=[row_of[row] for row in site.silent],
    )
    return replace(snapshot, site=moved, holdings=holdings)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("seed", range(3))
def test_other_names_and_another_order_of_nodes_change_nothing_that_fits(
    seed: int, flavour: Flavour
) -> None:
    twin, draws = lived(seed, flavour), Draws(seed + 1_000, flavour)
    snapshot = twin.engine.snapshot()
    other = Engine.from_snapshot(shuffled(snapshot, draws))
    for number in range(30):
        asked = Asked(wish=replace(draws.wish(), workload=f"later-{number}"), at=0)
        here, there = twin.engine.copy().apply(asked), other.copy().apply(asked)
        assert type(here) is type(there)
        assert told(here) == told(there)


def told(outcome: Outcome) -> tuple[object, ...]:
    """Return what does not hang on which of equal nodes came first."""
    assert isinstance(outcome, Placed | Refused)
    why = outcome.why
    best = why.best and (why.best.score, why.best.gain, why.best.left)
    least = why.relaxation and (why.relaxation.kind, why.relaxation.amount)
    return why.failed, best, least
