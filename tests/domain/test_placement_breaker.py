"""The quarantine breaker: a wrong threshold takes out a few nodes, and the rest stay until a person looks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_contracts.placement import Reason
from placement.domain.breaker import MOST, counts, held, most
from placement.domain.health import Turn

from tests.domain.test_placement_decide import server

CORDONED = Turn(
    state="cordoned", reasons=(Reason(code="health_fail", detail="K5"),), check_wished=3, check_needed=0
)


@pytest.mark.parametrize(
    ("nodes", "allowed"), [(0, 1), (1, 1), (19, 1), (20, 2), (400, 40), (9_999, MOST)]
)
def test_a_tenth_of_the_nodes_may_go_one_at_least_and_never_more_than_a_fixed_number(
    nodes: int, allowed: int
) -> None:
    assert most(nodes) == allowed


@given(st.integers(0, 100_000))
def test_more_nodes_never_mean_that_fewer_may_go(nodes: int) -> None:
    assert most(nodes) <= most(nodes + 1)


def test_only_a_gpu_node_that_a_check_takes_out_is_counted() -> None:
    assert counts(server(), CORDONED)
    assert not counts(server(cards=()), CORDONED), "it has no GPU"
    assert not counts(server(state="cordoned"), CORDONED), "it is out already"
    back = Turn(state="validating", reasons=(), check_wished=4, check_needed=4)
    assert not counts(server(state="cordoned"), back), "coming back is never held up"


def test_a_node_that_is_held_keeps_its_state_and_says_what_failed_and_why_it_stays() -> None:
    for state in ("ready", "validating"):
        turn = held(server(state=state), CORDONED, 5, 4)
        assert (turn.state, turn.check_wished) == (state, 3)
        assert [reason.code for reason in turn.reasons] == ["health_fail", "quarantine_held"]
        assert turn.reasons[1].unblock
