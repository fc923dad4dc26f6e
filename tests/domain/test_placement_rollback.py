"""What a rollback goes back to: the same engine, and soon, however long its decisions took."""

import pytest
from placement.domain.engine.engine import Engine
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import Size
from placement.domain.engine.wish import Asked, NodePut, Wish
from placement.rollback import Base


def asked(number: int) -> Asked:
    wish = Wish(
        workload=f"w{number}", organization="o", project="p", kind="job", size=Size(gpus=1), queue=True
    )
    return Asked(wish=wish, at=number)


def test_a_rollback_forgets_the_last_inputs_and_no_others() -> None:
    base, engine = Base(), Engine()
    for given in (NodePut(spec=NodeSpec(node="n", gpus=4)), asked(1), asked(2)):
        base.decide(engine, given)
    base.drop(0)
    assert base.engine().snapshot() == engine.snapshot()
    base.drop(1)
    assert set(base.engine().holdings) == {"w1"}


def test_the_state_is_taken_anew_before_deciding_again_would_take_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter(range(1_000))
    monkeypatch.setattr("placement.rollback.time.perf_counter", lambda: next(clock) / 32)
    base, engine = Base(), Engine()
    base.decide(engine, NodePut(spec=NodeSpec(node="n", gpus=4)))
    base.decide(engine, asked(1))
    assert not base.due
    base.decide(engine, asked(2))
    base.decide(engine, asked(3))
    assert base.due
    before = base.take(engine)
    assert not base.due
    for number in range(4, 23):
        base.decide(engine, asked(number))
    assert not base.due, "taking it took as long as each of these"
    base.decide(engine, asked(23))
    assert base.due
    base.drop(20)
    assert base.engine().snapshot() == before
