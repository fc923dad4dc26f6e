"""Work that users of other schedulers saw grow: with what is there already, with the site, with what is alike.

It is counted, not timed: the nodes that are scored anew for a decision, and what is copied for it.
Told after kai-scheduler/KAI-Scheduler 315 and 1865, volcano-sh/volcano 2583,
aws/karpenter-provider-aws 5505, and OpenStack placement's candidates of 8 to the power of 8.
"""

from collections.abc import Callable

import pytest
from placement.domain.engine import views
from placement.domain.engine.engine import Engine
from placement.domain.engine.fit import short
from placement.domain.engine.mix import Ints, Mix
from placement.domain.engine.site import Site
from placement.domain.engine.size import Size
from placement.domain.engine.wish import Asked, Placed, Released

from tests.domain.gang_world import racks
from tests.domain.gang_world import wish as gang
from tests.domain.placement_sites import node, placed, site, wish

SIZES = (Size(gpus=1), Size(gpus=2), Size(gpu_milli=250))


class Work:
    """Counts the rows that are looked at anew, and the states of nodes that are scored."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = self.states = 0
        useful = Mix.useful

        def looked_at(site: Site, size: Size, rows: Ints) -> Ints:
            self.rows += len(rows)
            return short(site, size, rows)

        def scored(mix: Mix, free: Ints, cpu: Ints, model: Ints) -> Ints:
            self.states += len(free)
            return useful(mix, free, cpu, model)

        monkeypatch.setattr(views, "short", looked_at)
        monkeypatch.setattr(Mix, "useful", scored)

    def of(self, engine: Engine, asks: int) -> int:
        """Return how many rows are looked at for so many asks, of sizes that were asked for before."""
        for number, size in enumerate(SIZES):
            placed(engine, wish(f"warm{number}", size))
        before = self.rows
        for number in range(asks):
            placed(engine, wish(f"w{number}", SIZES[number % 3]))
        return self.rows - before


def filled(nodes: int, workloads: int = 0) -> Engine:
    engine = site(*(node(f"n{number}") for number in range(nodes)))
    for number in range(workloads):
        engine.apply(Asked(wish=wish(f"there{number}", Size(gpus=1)), at=0))
    return engine


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


def test_work_that_is_there_already_makes_no_decision_dearer(work: Work) -> None:
    # 3,000 beside 8,000 that were there took 40 % longer than alone (Volcano 2583).
    assert work.of(filled(40, 200), 30) <= work.of(filled(40), 30) <= 3 * 30


def test_twice_the_nodes_are_no_more_nodes_to_score_for_a_decision(work: Work) -> None:
    # Each release was slower on large sites than the one before (KAI 1865).
    assert work.of(filled(25), 30) == work.of(filled(50), 30)


def test_hundreds_asked_at_once_are_as_much_work_each_as_one(work: Work) -> None:
    # 2,000 that came together waited for more than an hour (Karpenter 5505).
    engine = filled(50)
    for number in range(400):
        placed(engine, wish(f"w{number}", Size(gpus=1)))
    assert work.rows <= 50 + 400


def nobody_copies(*_: object, **__: object) -> None:
    raise AssertionError("a decision copies nothing of the site")


def test_a_decision_copies_nothing_of_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    # A picture of the site for each round took 2.2 of its 2.5 seconds (KAI 315).
    engine = racks(4, 6)
    copies: tuple[tuple[type, str], ...] = (
        *((Engine, name) for name in ("copy", "twin", "snapshot")),
        *((Site, "copy"), (views.Views, "copy")),
    )
    for where, name in copies:
        monkeypatch.setattr(where, name, nobody_copies)
    asks = [gang("a", size=Size(gpus=2)), gang("b", 8), gang("c", size=Size(gpu_milli=100))]
    for number, wished in enumerate(asks):
        assert isinstance(engine.apply(Asked(wish=wished, at=number)), Placed)
    for wished in asks:
        engine.apply(Released(workload=wished.workload, at=9))


def states(work: Work, size: Size) -> int:
    """Return how many states of nodes are scored for a first ask for a size."""
    engine, before = filled(1), work.states
    placed(engine, wish("a", size))
    return work.states - before


@pytest.mark.parametrize("size", [Size(gpus=1), Size(gpus=4), Size(gpus=8), Size(gpu_milli=300)])
def test_cards_that_are_alike_are_one_candidate(work: Work, size: Size) -> None:
    # Eight of eight each were eight to the power of eight candidates (OpenStack placement 2025.2).
    assert states(work, size) == 2


def test_members_that_are_alike_are_seated_together_and_not_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, seated = racks(8, 8), 0

    def counting(take: Callable[..., None]) -> Callable[..., None]:
        def taken(*given: object) -> None:
            nonlocal seated
            seated += 1
            take(*given)

        return taken

    monkeypatch.setattr(engine.seating, "enter", counting(engine.seating.enter))
    monkeypatch.setattr(engine.seating, "sit", counting(engine.seating.sit))
    outcome = engine.apply(Asked(wish=gang("g", 64, size=Size(gpus=4)), at=0))
    assert isinstance(outcome, Placed)
    assert len({seat.node for seat in outcome.seats}) == 64
    assert seated == 1
