"""Join tokens, enrolment, and who gets through the bus' door."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from identity.domain.joining import (
    Enrol,
    LetIn,
    LetJoin,
    Node,
    TurnAway,
    enrol,
    is_public_key,
    let_in,
    offer,
    opens,
)
from mesh_contracts.ask import Problem
from mesh_contracts.identity import CreateJoinToken, EnrolNode, JoinToken
from meshkit import usertoken
from meshkit.testing import NOW, test_id, wish

PUBLIC_KEY = usertoken.public_key(usertoken.new_seed("user"))


def token(uses: int = 1, lives_s: int = 60) -> JoinToken:
    return JoinToken(id=test_id("token"), uses_left=uses, expires_at=NOW + timedelta(seconds=lives_s))


def ask(public_key: str = PUBLIC_KEY) -> EnrolNode:
    return EnrolNode(**wish(), join_token="mesh_join_x", public_key=public_key, name="n01")


NODE = Node(test_id("node"), "n01", PUBLIC_KEY, "fr-idf-1")


def test_a_node_with_a_token_gets_an_id_and_is_told_with_its_public_key() -> None:
    held = token()
    decision = enrol(ask(), None, held, NOW)
    assert isinstance(decision, Enrol)
    assert decision.token_id == held.id
    assert decision.fact.key == decision.fact.node_id == decision.node.node_id
    assert decision.fact.public_key == PUBLIC_KEY


@pytest.mark.parametrize("held", [None, token(uses=0), token(lives_s=0), token(lives_s=-5)])
def test_a_token_that_is_unknown_used_up_or_over_enrols_nobody(held: JoinToken | None) -> None:
    decision = enrol(ask(), None, held, NOW)
    assert isinstance(decision, Problem)
    assert (decision.status, decision.code) == (403, "join_token_invalid")


@pytest.mark.parametrize("held", [None, token(uses=0), token()])
def test_a_node_that_is_known_keeps_its_id_whatever_the_token(held: JoinToken | None) -> None:
    assert enrol(ask(), NODE, held, NOW) == NODE


def test_what_is_no_users_public_key_is_not_enrolled() -> None:
    decision = enrol(ask(usertoken.public_key(usertoken.new_seed("account"))), None, token(), NOW)
    assert isinstance(decision, Problem)
    assert decision.param == "public_key"


@given(st.integers(0, 55), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_a_public_key_with_a_wrong_character_is_none(at: int, character: str) -> None:
    wrong = PUBLIC_KEY[:at] + character + PUBLIC_KEY[at + 1 :]
    assert is_public_key(wrong) == (wrong == PUBLIC_KEY)


@given(
    known=st.booleans(),
    held=st.sampled_from([None, token(), token(uses=0), token(lives_s=0)]),
    proven=st.booleans(),
)
def test_the_door_opens_only_to_who_proves_a_key_that_is_known_or_comes_with_a_good_token(
    known: bool, held: JoinToken | None, proven: bool
) -> None:
    verdict = let_in(NODE if known else None, held, NOW, proven=proven)
    if not proven:
        assert verdict == TurnAway("unproven")
    elif known:
        assert verdict == LetIn(NODE)
    elif held is not None and opens(held, NOW):
        assert verdict == LetJoin()
    else:
        assert isinstance(verdict, TurnAway)


@given(st.integers(-1, 20_000), st.integers(-1, 8 * 24 * 3600))
def test_a_token_is_offered_within_its_bounds_only(uses: int, lifetime_s: int) -> None:
    offered = offer(CreateJoinToken(**wish(), uses=uses, lifetime_s=lifetime_s), NOW)
    if 1 <= uses <= 10_000 and 1 <= lifetime_s <= 7 * 24 * 3600:
        assert isinstance(offered, JoinToken)
        assert offered.uses_left == uses
        assert offered.expires_at - NOW == timedelta(seconds=lifetime_s)
        assert opens(offered, NOW)
        assert not opens(offered, offered.expires_at)
    else:
        assert isinstance(offered, Problem)
        assert offered.param in {"uses", "lifetime_s"}
