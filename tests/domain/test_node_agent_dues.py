"""Which devices are due which check, and what is to be checked before work begins."""

from node_agent.domain.dues import Dues

A, B = "GPU-a", "GPU-b"


def test_what_nobody_used_is_due_again_once_it_was_not_looked_at_for_long() -> None:
    dues = Dues(every_s=60)
    assert dues.due([A, B], now=1_000) is None, "the first check is another's business"
    dues.checked([A, B], "standard", now=1_000)
    dues.checked([B], "quick", now=1_050)
    assert dues.due([A, B], now=1_059) is None
    assert dues.due([A, B], now=1_060) == ("quick", [A])
    assert dues.due([B], now=1_060) is None, "only what is free counts"


def test_with_no_interval_nothing_is_late() -> None:
    dues = Dues(every_s=0)
    dues.checked([A], "quick", now=0)
    assert dues.due([A], now=1e9) is None


def test_what_was_used_is_due_a_quick_check_once_it_is_free() -> None:
    dues = Dues(every_s=0)
    dues.used([A], "p1")
    assert dues.due([], now=1) is None
    assert dues.due([A, B], now=1) == ("quick", [A])
    dues.checked([A], "quick", now=2)
    assert dues.due([A, B], now=3) is None


def test_a_suspicion_comes_first_and_only_its_own_level_or_above_settles_it() -> None:
    dues = Dues(every_s=0)
    dues.used([B], "p1")
    dues.suspect(A, "standard")
    dues.suspect(A, "quick")
    assert dues.due([A, B], now=1) == ("standard", [A])
    dues.checked([A], "quick", now=2)
    assert dues.due([A, B], now=3) == ("standard", [A])
    dues.checked([A], "deep", now=4)
    assert dues.due([A, B], now=5) == ("quick", [B])


def test_between_two_projects_a_device_is_checked_and_within_one_it_is_not() -> None:
    dues = Dues(every_s=0)
    assert dues.first([A, B], "p1", whole=True, gang=True) == []
    dues.used([A], "p1")
    assert dues.first([A, B], "p1", whole=True, gang=False) == []
    assert dues.first([A, B], "p2", whole=True, gang=False) == [A]
    assert dues.first([A, B], "p1", whole=True, gang=True) == [A], (
        "one bad GPU would hold up all of a gang"
    )
    assert dues.first([A], "p2", whole=False, gang=False) == [], "beside others nothing is checked"


def test_a_suspected_device_is_checked_before_anybody_has_it() -> None:
    dues = Dues(every_s=0)
    dues.suspect(A, "quick")
    assert dues.first([A], "p1", whole=True, gang=False) == [A]
