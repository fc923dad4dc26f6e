"""Prompts go where their beginning was seen, within bounds, and never across projects."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from inference_gateway.domain.routing import prefixes as bounds
from inference_gateway.domain.routing.affinity import cache_salt
from inference_gateway.domain.routing.prefixes import Prefixes, hashed
from meshkit.testing import test_id

from tests.domain.routes import fleet_of, letter, route, sent


def test_a_long_prompt_goes_where_its_beginning_was_seen() -> None:
    to = route(4, routing={"by": "prefix"})
    fleet = fleet_of(to)
    system = b"You are helpful. " * 100
    first = letter(sent(fleet, to, prefix=system + b"one", chance=0.6))
    for at in range(8):
        chosen = sent(fleet, to, prefix=system + b"other %d" % at, chance=at / 8)
        assert (letter(chosen), chosen.by) == (first, "prefix")
    unknown = sent(fleet, to, prefix=b"Something else. " * 100, chance=0.1)
    assert unknown.by == "least_load"
    short = sent(fleet, to, prefix=b"Hi", chance=0.1)
    assert short.by == "least_load"


def test_a_beginning_that_is_a_small_part_of_the_prompt_does_not_decide() -> None:
    to = route(4, routing={"by": "prefix"})
    fleet = fleet_of(to)
    sent(fleet, to, prefix=b"s" * 512)
    assert sent(fleet, to, prefix=b"s" * 512 + b"t" * 512).by == "prefix"
    assert sent(fleet, to, prefix=b"s" * 512 + b"u" * 2_000).by == "least_load"


def test_a_popular_beginning_does_not_bury_one_replica() -> None:
    to = route(2, routing={"by": "prefix"})
    fleet = fleet_of(to)
    asked = Counter(letter(sent(fleet, to, prefix=b"p" * 1_024, tokens=10)) for _ in range(300))
    assert max(asked.values()) <= 64 + 1 + 1.5 * min(asked.values()) + 64
    assert min(asked.values()) > 64


def test_one_endpoints_beginnings_say_nothing_of_anothers() -> None:
    mine, theirs = (route(2, name=name, routing={"by": "prefix"}) for name in ("mine", "theirs"))
    fleet = fleet_of(mine, theirs)
    sent(fleet, mine, prefix=b"p" * 1_024)
    assert sent(fleet, theirs, prefix=b"p" * 1_024).by == "least_load"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400), st.integers(0, 5)), max_size=200))
def test_prefix_tables_stay_within_both_bounds(notes: list[tuple[int, int, int]]) -> None:
    tables = Prefixes(each_max=64, all_max=160)
    for endpoint, text, workload in notes:
        tables.note(f"e{endpoint}", hashed(b"%d" % text * 1_000), f"w{workload}")
        sizes = [len(tables.of(f"e{one}")) for one in range(4)]
        assert tables.held == sum(sizes) <= 160
        assert max(sizes) <= 64 + len(bounds.CUTS)


def test_a_replica_that_comes_after_another_inherits_nothing_it_had_seen() -> None:
    tables = Prefixes()
    seen = hashed(b"p" * 4_096)
    for at in range(bounds.MARKS_MAX + 10):
        tables.note("e", seen, f"w{at}")
        tables.of("e").keep({f"w{at}"})
        found, share = tables.of("e").longest(seen, [f"w{at}", f"w{at + 1}"])
        assert found == {f"w{at}"}
        assert share == 1.0


def test_a_cache_is_salted_by_project_unless_it_is_shared() -> None:
    mine, theirs = (route(1, project=test_id("project", name)) for name in ("mine", "theirs"))
    salts = {cache_salt(one, b"secret", own) for one in (mine, theirs) for own in (None, "a", "b")}
    assert len(salts) == 6
    assert None not in salts
    assert cache_salt(mine, b"secret") == cache_salt(mine, b"secret")
    assert cache_salt(mine, b"secret") != cache_salt(mine, b"other")
    shared = route(1, routing={"cache_shared": True})
    assert cache_salt(shared, b"secret") is None
    assert cache_salt(shared, b"secret", "a") == "a"
    assert cache_salt(route(1, engine="llama"), b"secret", "a") is None
