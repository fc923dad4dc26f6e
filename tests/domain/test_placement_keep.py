"""An engine that is kept and made again goes on as if nothing had been."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement.domain.engine.engine import Engine
from placement.domain.engine.redo import Decided, have
from placement.domain.engine.snapshot import Snapshot
from placement.domain.engine.wish import Input, Outcome, Placed, Refused

from tests.domain.engines import Inputs

pytestmark = pytest.mark.slow


def said(engine: Engine, given: Input) -> Outcome | str:
    """Return what is decided, or what cannot be."""
    try:
        return engine.apply(given)
    except ValueError as fault:
        return str(fault)


@given(st.integers(0, 10**6))
@settings(max_examples=5)
def test_an_engine_made_of_another_s_state_decides_what_the_other_would_have_decided(seed: int) -> None:
    inputs = Inputs(seed)
    engine = Engine()
    outcomes: list[Outcome | str] = []
    for number in range(90):
        given = inputs.next()
        outcomes.append(said(engine, given))
        if number % 30 == 29:
            kept = msgspec.json.encode(engine.snapshot())
            again = Engine.from_snapshot(msgspec.json.decode(kept, type=Snapshot))
            assert again.snapshot() == engine.snapshot()
            fork = msgspec.json.decode(kept, type=Snapshot)
            after = [inputs.next() for _ in range(20)]
            assert [said(again, one) for one in after] == [said(engine, one) for one in after]
            assert again.snapshot() == engine.snapshot()
            assert Engine.from_snapshot(fork).snapshot() == fork
    assert any(isinstance(one, Placed) for one in outcomes)
    assert any(isinstance(one, Refused) for one in outcomes)


@given(st.integers(0, 10**6))
@settings(max_examples=6)
def test_the_same_inputs_give_the_same_decisions_bit_for_bit(seed: int) -> None:
    rows = []
    for _ in range(2):
        inputs, engine = Inputs(seed), Engine()
        rows.append([msgspec.json.encode(said(engine, inputs.next())) for _ in range(80)])
    assert rows[0] == rows[1]


@given(st.integers(0, 10**6))
@settings(max_examples=6)
def test_what_was_decided_is_had_again_without_being_decided(seed: int) -> None:
    inputs, engine, again = Inputs(seed), Engine(), Engine()
    for _ in range(120):
        given = inputs.next()
        outcome = said(engine, given)
        if not isinstance(outcome, str):
            have(again, Decided(given, outcome))
        for name in ("free", "closed", "silent"):
            assert getattr(again.site, name).tolist() == getattr(engine.site, name).tolist()
        assert again.power.state() == engine.power.state()
        assert {name: (one.wish, one.parts, one.at) for name, one in again.holdings.items()} == {
            name: (one.wish, one.parts, one.at) for name, one in engine.holdings.items()
        }
