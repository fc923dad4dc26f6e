"""Turns as a whole: replayed, restarted and copied they decide the same, and what is not used costs nothing."""

from typing import Any

import msgspec
import pytest
from placement.domain.engine.admission import Admission
from placement.domain.engine.engine import Engine
from placement.domain.engine.notice import Cancelled, Preempted
from placement.domain.engine.size import Size
from placement.domain.engine.snapshot import Snapshot
from placement.domain.engine.turnsstate import TurnsState
from placement.domain.engine.wish import (
    Asked,
    Input,
    Moved,
    Noted,
    Placed,
    Refused,
    Released,
    Seat,
    Stranded,
    Wish,
)

from tests.domain.halls import HOUR, MODEL, Hall
from tests.domain.weeks import Week

pytestmark = pytest.mark.slow


def hear(engine: Engine, given: Input) -> Any:
    try:
        return engine.apply(given)
    except ValueError as cannot:
        return str(cannot)


def restarted(engine: Engine) -> Engine:
    """Return an engine made of what was written down of one."""
    written = msgspec.msgpack.encode(engine.snapshot())
    return Engine.from_snapshot(msgspec.msgpack.decode(written, type=Snapshot))


def hall() -> Engine:
    return Hall(domains=4, nodes=2).engine


def whole(engine: Engine) -> tuple[Any, ...]:
    """Return all that is to be the same."""
    return (
        engine.holdings,
        list(engine.holdings),
        engine.site.free.tolist(),
        engine.turns.state(),
        engine.turns.admission.ends,
        {one.name: (one.firm, one.stuck, one.lent, one.over, one.booked) for one in projects(engine)},
        engine.turns.admission.domains.state.tolist() and spare(engine),
    )


def projects(engine: Engine) -> list[Any]:
    return list(engine.turns.admission.quota.projects())


def spare(engine: Engine) -> list[int]:
    domains = engine.turns.admission.domains
    return [domains.spare(MODEL), domains.owed(MODEL)] if domains.active and domains.owed(MODEL) else []


@pytest.mark.parametrize("seed", range(3))
def test_the_same_inputs_give_the_same_decisions_also_after_a_restart(seed: int) -> None:
    first, second, week = hall(), hall(), Week(seed)
    told: set[str] = set()
    for count in range(160):
        given = week.next()
        mine, other = hear(first, given), hear(second, given)
        assert mine == other, (seed, count, given)
        told.add(type(mine).__name__)
        if count % 20 == 19:
            second = first.copy() if count % 40 == 39 else restarted(first)
            assert whole(first) == whole(second), (seed, count)
    assert {"Placed", "Queued", "Refused", "Advanced"} <= told


@pytest.mark.parametrize("seed", range(2))
def test_what_decides_about_turns_can_be_written_down(seed: int) -> None:
    engine, week = hall(), Week(seed)
    for _ in range(150):
        hear(engine, week.next())
    state = engine.turns.state()
    assert state.entries
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=TurnsState) == state
    assert msgspec.json.decode(msgspec.json.encode(state), type=TurnsState) == state


@pytest.mark.parametrize("seed", range(2))
def test_what_is_tried_on_a_copy_is_not_so_here(seed: int) -> None:
    engine, week = hall(), Week(seed)
    for _ in range(120):
        hear(engine, week.next())
    before = msgspec.msgpack.encode(engine.turns.state()), list(engine.holdings.items())
    twin = engine.copy()
    for _ in range(60):
        hear(twin, week.next())
    assert (msgspec.msgpack.encode(engine.turns.state()), list(engine.holdings.items())) == before


@pytest.mark.parametrize("seed", range(2))
def test_a_refusal_or_an_input_that_cannot_be_changes_nothing(seed: int) -> None:
    engine, week = hall(), Week(seed)
    for _ in range(150):
        given = week.next()
        before = engine.site.free.tolist(), list(engine.holdings), list(engine.turns.queue.entries)
        found = hear(engine, given)
        if isinstance(found, str | Refused):
            now = engine.site.free.tolist(), list(engine.holdings), list(engine.turns.queue.entries)
            assert now == before


@pytest.mark.parametrize("seed", range(2))
def test_every_workload_is_in_one_place_and_nobody_is_lost(seed: int) -> None:
    engine, week = hall(), Week(seed)
    alive: set[str] = set()
    for _ in range(160):
        given = week.next()
        found = hear(engine, given)
        outcomes = [*getattr(found, "outcomes", ()), found]
        match given:
            case Asked() if not isinstance(found, str | Refused):
                alive.add(given.wish.workload)
            case Released() if not isinstance(found, str):
                alive.discard(given.workload)
            case Cancelled() if not isinstance(found, str) and given.name.startswith("w"):
                alive.discard(given.name)
        there, waits = set(engine.holdings), set(engine.turns.queue.entries)
        for one in outcomes:
            alive -= {name for name in getattr(one, "preempted", ()) if name not in there | waits}
            if isinstance(one, Preempted) and not one.queued:
                alive.discard(one.workload)
            if isinstance(one, Stranded) and one.released and not one.queued:
                alive.discard(one.workload)
        assert not there & waits
        assert there | waits == alive
        assert sum(len(part.cards) for held in engine.holdings.values() for part in held.parts) == int(
            (engine.site.cards[: engine.site.rows].sum() * 1_000 - engine.site.free.sum()) // 1_000
        )


def test_where_nothing_but_room_decides_nothing_else_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Hall(preempts=False).engine

    def asked(*_given: Any, **_more: Any) -> None:
        raise AssertionError

    for name in ("barred", "grant", "find"):
        monkeypatch.setattr(Admission, name, asked)
    size = Size(gpus=4)
    for number in range(5):
        wish = Wish(workload=f"w{number}", organization="a", project="b", kind="job", size=size)
        found = engine.apply(Asked(wish=wish, at=0))
        assert isinstance(found, Placed if number < 4 else Refused)


def move(hall: Hall, workload: str, node: str, cards: tuple[int, ...]) -> Any:
    return hear(hall.engine, Moved(workload=workload, member=0, to=Seat(node, cards, 1_000)))


def test_who_is_moved_is_counted_where_it_sits() -> None:
    hall = Hall(domains=3, nodes=1)
    hall.quota("beta", gpus=4, domains=1)
    hall.quota("acme", gpus=8)
    first, second = (hall.placed("acme", 1).workload for _ in range(2))
    domains = hall.engine.turns.admission.domains
    assert domains.spare(MODEL) == 1
    assert move(hall, second, "d1n0", (0,)) == Noted()
    assert domains.spare(MODEL) == 0
    assert "does not fit" in move(hall, first, "d2n0", (0,))
    assert move(hall, first, "d1n0", (1,)) == Noted()
    assert domains.spare(MODEL) == 1
    assert [one.held for one in projects(hall.engine)] == [2_000]


def test_nobody_is_moved_to_what_is_kept_for_others() -> None:
    hall = Hall(domains=3, nodes=1, preempts=False)
    moves = hall.placed("acme", 1).workload
    hall.reserve("beta", 2 * HOUR, 3 * HOUR, nodes=("d2n0",))
    assert "does not fit" in move(hall, moves, "d2n0", (0,))
    assert move(hall, moves, "d1n0", (0,)) == Noted()
