"""A server goes through its lease one step after the other, from wherever it stands."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from meshkit.testing import test_id
from node_agent.domain.leasing import At, next_step, shown

from tests.domain.leased import leased

ONE, OTHER = test_id("workload", "leased"), test_id("workload", "other")
STEPS: Any = ("hold", "erase", "attest")


@pytest.mark.parametrize(
    ("at", "wished", "step"),
    [
        ("handing_over", "hold", "hand_over"),
        ("held", "hold", None),
        ("handing_over", "", "take_back"),
        ("held", "", "take_back"),
        ("held", "erase", "take_back"),
        ("given_back", "", None),
        ("given_back", "erase", "erase"),
        ("erased", "erase", None),
        ("erased", "attest", "attest"),
        ("attested", "attest", None),
        ("attested", "", None),
    ],
)
def test_what_comes_next_follows_from_where_it_stands_and_what_is_wished(
    at: At, wished: str, step: str | None
) -> None:
    wanted = [leased(step=wished)] if wished else []
    assert next_step((ONE, at), wanted)[0] == step


def test_a_new_lease_begins_once_the_last_is_given_back_and_not_listed() -> None:
    fresh = leased(of="other")
    assert next_step(None, [fresh]) == ("hand_over", fresh)
    assert next_step((ONE, "attested"), [fresh]) == ("hand_over", fresh)
    assert next_step((ONE, "held"), [fresh])[0] == "take_back"
    assert next_step((ONE, "given_back"), [leased(step="erase"), fresh])[0] == "erase"


@given(at=st.sampled_from(get_args(At)), mine=st.sampled_from(["", *STEPS]), other=st.booleans())
def test_a_server_that_is_a_tenants_is_handed_to_nobody_else(at: At, mine: str, other: bool) -> None:
    wanted = ([leased(step=mine)] if mine else []) + ([leased(of="other")] if other else [])
    step, spec = next_step((ONE, at), wanted)
    if step == "hand_over" and spec is not None and spec.workload_id == OTHER:
        assert at not in {"handing_over", "held"}
        assert not mine
    assert (shown(at) is None) == (at not in {"handing_over", "held"})
