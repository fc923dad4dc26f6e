"""What a model's name leads to: endpoints, aliases with weights, adapters, fallbacks."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from inference_gateway.domain.directory import Directory
from mesh_contracts.placement import Alias, Route
from meshkit.testing import test_id

from tests.domain.routes import route

PROJECT = test_id("project", "p")


def directory_of(*routes: Route) -> Directory:
    directory = Directory()
    for one in routes:
        directory.put(one.endpoint_id, one)
    return directory


def names(directory: Directory, name: str, **how: Any) -> list[str]:
    return [way.route.name for way in directory.resolve(PROJECT, name, **how)]


def aliased(name: str, weight: int, **fields: Any) -> Route:
    replicas = fields.pop("replicas", 1)
    return route(
        replicas, name=name, routing={"aliases": [Alias(name="best", weight=weight)]}, **fields
    )


def test_an_endpoints_own_name_beats_an_alias_and_an_alias_an_adapter() -> None:
    own = route(name="best")
    alias = route(name="other", routing={"aliases": [Alias(name="best"), Alias(name="style")]})
    adapted = route(name="third", routing={"loras": ["style", "best"]})
    directory = directory_of(own, alias, adapted)
    assert names(directory, "best") == ["best"]
    assert directory.resolve(PROJECT, "best")[0].asked_as is None
    (way,) = directory.resolve(PROJECT, "style")
    assert (way.route, way.asked_as, way.lora) == (alias, "style", None)
    directory.put(alias.endpoint_id, None)
    (way,) = directory.resolve(PROJECT, "style")
    assert (way.route, way.asked_as, way.lora) == (adapted, "style", "style")
    directory.put(own.endpoint_id, None)
    assert directory.resolve(PROJECT, "best")[0].lora == "best"
    assert directory.resolve(PROJECT, "nothing") == ()
    assert directory.resolve(test_id("project", "q"), "best") == ()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_endpoints_with_one_alias_get_the_shares_of_their_weights(weights: list[int]) -> None:
    routes = [aliased(f"m{at}", weight, age_s=9 - at) for at, weight in enumerate(weights)]
    directory = directory_of(*routes)
    total = sum(weights)
    drawn = Counter(
        name for at in range(total) for name in names(directory, "best", chance=at / max(total, 1))
    )
    assert drawn == Counter({f"m{at}": weight for at, weight in enumerate(weights) if weight})


def test_a_session_draws_the_same_endpoint_whatever_chance_says() -> None:
    directory = directory_of(aliased("old", 50, age_s=9), aliased("new", 50))
    drawn = {
        session: {names(directory, "best", session=session, chance=at / 9)[0] for at in range(9)}
        for session in map(str, range(30))
    }
    assert all(len(found) == 1 for found in drawn.values())
    assert set.union(*drawn.values()) == {"old", "new"}
    (way,) = directory.resolve(PROJECT, "best", session="1")
    assert way.canary


def test_an_endpoint_that_cannot_answer_gets_no_share_while_another_can() -> None:
    directory = directory_of(
        aliased("old", 1, age_s=9), aliased("away", 99, replicas=0, state="starting")
    )
    assert {names(directory, "best", chance=at / 9)[0] for at in range(9)} == {"old"}
    waking = aliased("away", 99, replicas=0, state="asleep", wakes=True)
    directory.put(waking.endpoint_id, waking)
    assert {names(directory, "best", chance=at / 9)[0] for at in range(9)} == {"old", "away"}


def test_fallbacks_follow_in_order_once_each_and_no_deeper() -> None:
    first = route(name="first", routing={"fallbacks": ["second", "first", "none", "alias", "second"]})
    second = route(name="second", routing={"fallbacks": ["deeper", "first"]})
    third = route(name="third", routing={"aliases": [Alias(name="alias")]})
    directory = directory_of(first, second, third, route(name="deeper"))
    assert names(directory, "first") == ["first", "second", "third"]
    ways = directory.resolve(PROJECT, "first")
    assert [(way.fallback, way.asked_as) for way in ways] == [
        (False, None),
        (True, "first"),
        (True, "first"),
    ]
    gone = route(name="second", state="stopping")
    directory.put(gone.endpoint_id, gone)
    assert names(directory, "first") == ["first", "third"]
    vectors = route(name="third", embedding=True, routing={"aliases": [Alias(name="alias")]})
    directory.put(vectors.endpoint_id, vectors)
    assert names(directory, "first") == ["first"], "vectors do not stand in for words"


def test_every_name_that_can_be_asked_for_is_listed_and_those_on_their_way_out_are_not() -> None:
    kept = route(name="kept", routing={"aliases": [Alias(name="best")], "loras": ["style"]})
    gone = route(name="gone", state="stopped", routing={"aliases": [Alias(name="old")]})
    directory = directory_of(kept, gone)
    assert directory.called(PROJECT) == [("best", kept), ("kept", kept), ("style", kept)]
    assert directory.of(PROJECT) == [kept]
    assert directory.find(PROJECT, "gone") == gone


def test_a_change_is_seen_at_once_and_nothing_is_kept_of_what_is_gone() -> None:
    old = route(name="m", routing={"fallbacks": ["f"]})
    directory = directory_of(old, route(name="f"))
    assert names(directory, "m") == ["m", "f"]
    new = route(name="m")
    directory.put(new.endpoint_id, new)
    assert names(directory, "m") == ["m"]
    assert directory.current(old.endpoint_id) is new
    for one in list(directory):
        directory.put(one.endpoint_id, None)
    assert list(directory) == []
    assert not directory._names
    assert directory.called(PROJECT) == []
