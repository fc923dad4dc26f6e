"""What a lease becomes: nobody gets a server before it is shown to be clean."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mesh_contracts.node import ErasureRecorded
from mesh_contracts.placement import Reason
from meshkit.testing import NOW, envelope, test_id
from placement.domain.leases import GIVEN_UP_S, after_erasure, judge, released, show_lease
from placement.domain.members import LOST_FOR_S, Member

from tests.domain.holdings import changed, later, lease, member

WHY = Reason(code="member_failed", detail="no power")


def server(number: int = 0, **fields: Any) -> Member:
    return member(number, kind="lease", owner_id=test_id("lease", "a lease"), **fields)


def held(state: str = "active", **fields: Any) -> Any:
    return lease(state=state, place="sits", active_at=NOW, **fields)


@pytest.mark.parametrize(
    ("states", "becomes", "waits"),
    [
        (("assigned", "assigned"), "reserved", 2),
        (("starting", "assigned"), "provisioning", 2),
        (("ready", "assigned"), "provisioning", 1),
        (("ready", "ready"), "active", 0),
    ],
)
def test_a_lease_is_active_once_every_server_was_handed_over(
    states: tuple[str, str], becomes: str, waits: int
) -> None:
    turn = judge(held("reserved"), [server(n, state=state) for n, state in enumerate(states)], NOW)
    assert (turn.state, sum(reason.count or 0 for reason in turn.reasons)) == (becomes, waits)


def test_a_lease_is_asked_for_at_its_time_and_waits_no_longer_than_it_said() -> None:
    early = lease(starts_at=later(60), waits_until=later(120))
    assert (judge(early, [], NOW).tell, judge(early, [], NOW).reasons[0].code) == ("", "starts_later")
    assert judge(early, [], later(60)).tell == "ask"
    waits = lease(place="waits", waits_until=later(120), reasons=(WHY,))
    assert judge(waits, [], later(119)).state == "requested"
    turn = judge(waits, [], later(120))
    assert (turn.state, turn.tell, turn.reasons) == ("refused", "cancel", (WHY,))
    over = judge(lease(place="waits", waits_until=later(99), due_at=later(9)), [], later(9))
    assert (over.state, over.tell, over.reasons[0].code) == ("ended", "cancel", "lease_over")


def test_a_server_that_cannot_be_handed_over_spoils_the_lease_and_one_that_breaks_later_does_not() -> (
    None
):
    bad = server(1, state="failed", reasons=(WHY,))
    turn = judge(held("provisioning"), [server(0, state="ready"), bad], NOW)
    assert (turn.state, turn.spoilt, [one.number for one in turn.stops]) == ("releasing", True, [0])
    turn = judge(held("active"), [server(0, state="ready"), bad], NOW)
    assert (turn.state, turn.spoilt, turn.reasons) == ("active", False, (WHY,))
    gone = server(0, state="ready", node_state="lost")
    assert judge(held("active"), [gone], later(LOST_FOR_S)).reasons[0].code == "node_lost"
    assert judge(held("active"), [gone], later(LOST_FOR_S - 1)).reasons == ()


def test_what_the_tenant_had_is_erased_then_attested_and_what_it_never_had_is_not() -> None:
    had, never = server(0, state="stopped", started_at=NOW), server(1, state="stopped")
    turn = judge(held("releasing"), [had, never], NOW)
    assert (turn.state, [(one.number, step) for one, step in turn.steps]) == (
        "erasing",
        [(0, "erase"), (1, "done")],
    )
    done = changed(never, step="done", holds=False)
    assert judge(held("erasing"), [changed(had, step="attest"), done], NOW).state == "attesting"
    clean = changed(had, step="done", holds=False)
    turn = judge(held("attesting"), [clean, done], NOW)
    assert (turn.state, turn.tell) == ("ended", "release")
    assert judge(held("attesting", spoilt=True), [clean, done], NOW).state == "failed"


def test_servers_that_still_run_are_stopped_before_any_is_erased() -> None:
    turn = judge(held("releasing"), [server(0, state="ready"), server(1, state="stopped")], NOW)
    assert (turn.state, turn.steps, len(turn.stops)) == ("releasing", (), 1)


def test_a_server_that_is_lost_on_the_way_out_is_given_up_as_unclean_and_holds_up_no_other() -> None:
    gone = server(1, state="stopping", started_at=NOW, node_state="lost", node_since=NOW)
    others = [server(n, state="stopped", started_at=NOW) for n in (0, 2)]
    leaving = held("releasing")
    waits = judge(leaving, [others[0], gone, others[1]], later(GIVEN_UP_S - 1))
    assert (waits.state, waits.fails, waits.steps) == ("releasing", (), ())
    turn = judge(leaving, [others[0], gone, others[1]], later(GIVEN_UP_S))
    assert (turn.state, turn.spoilt) == ("erasing", True)
    [(unclean, why)] = turn.fails
    assert (unclean, why.code, "wipe" in why.unblock) == (gone, "erasure_failed", True)
    assert {(item.number, step) for item, step in turn.steps} == {
        (0, "erase"),
        (1, "done"),
        (2, "erase"),
    }
    after = [changed(gone, state="failed", step="done")]
    after += [changed(one, step="done") for one in others]
    ended = judge(changed(leaving, spoilt=True), after, later(GIVEN_UP_S))
    assert (ended.state, ended.tell, ended.fails) == ("failed", "release", ())


def test_a_server_that_is_lost_before_it_was_erased_is_given_up_too() -> None:
    gone = server(0, state="stopped", started_at=NOW, step="erase", node_state="lost", node_since=NOW)
    turn = judge(held("erasing"), [gone], later(GIVEN_UP_S))
    assert (turn.state, turn.steps) == ("failed", ((gone, "done"),))
    assert judge(held("active"), [gone], later(GIVEN_UP_S)).steps == ()


def test_a_lease_ends_at_its_time_or_by_a_wish_and_once() -> None:
    turn = judge(held("active", due_at=later(5)), [server(0, state="ready")], later(5))
    assert (turn.state, turn.reasons[0].code) == ("releasing", "lease_over")
    assert released(held("active")).state == "releasing"
    assert released(held("erasing")).state == "erasing"
    assert (released(lease()).state, released(lease()).tell) == ("ended", "")
    assert released(lease(place="waits")).tell == "cancel"


def shows(step: str, verdict: str, quality: str = "measured") -> ErasureRecorded:
    """Return what an agent records of a server that was leased."""
    node = test_id("node")
    found: Any = {"step": step, "verdict": verdict, "quality": quality}
    return ErasureRecorded(
        **envelope(node), node_id=node, workload_id=test_id("workload"), method="overwritten", **found
    )


@pytest.mark.parametrize("step", ["erased", "attested"])
@pytest.mark.parametrize("verdict", ["pass", "warn", "fail", "inconclusive"])
def test_only_a_clean_verdict_lets_a_server_go_on(step: str, verdict: str) -> None:
    to, reason, clean = after_erasure(shows(step, verdict), rehearsal=False)
    assert clean == (verdict == "pass")
    assert to == ("attest" if clean and step == "erased" else "done")
    assert bool(reason.unblock) == (not clean)


def test_what_was_only_rehearsed_shows_nothing_of_a_server_that_is_there() -> None:
    rehearsed = shows("erased", "pass", quality="rehearsed")
    to, reason, clean = after_erasure(rehearsed, rehearsal=False)
    assert (to, clean) == ("done", False)
    assert "only rehearsed" in reason.detail
    to, reason, clean = after_erasure(rehearsed, rehearsal=True)
    assert (to, clean) == ("attest", True)
    assert "rehearsed" in reason.detail


def test_a_lease_that_stays_too_long_on_its_way_is_listed_as_stuck() -> None:
    shown = show_lease(held("erasing"), [server(0, state="stopped")], later(10**6))
    assert [reason.code for reason in shown.reasons] == ["stuck"]
    assert "which server is late" in str(shown.reasons[0].unblock)


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["start", "ready", "fail", "stop", "clean", "dirty", "end"]),
            st.integers(0, 2),
        ),
        max_size=40,
    )
)
def test_whatever_happens_no_server_is_free_before_it_is_clean(events: list[tuple[str, int]]) -> None:
    one: Any = lease(state="reserved", place="sits")
    servers = [server(number) for number in range(3)]
    shown: Counter[int] = Counter()
    for what, number in events:
        if what == "end":
            one = turned(one, released(one))
        elif what in {"clean", "dirty"}:
            servers[number] = recorded(servers[number], what, shown)
        else:
            servers[number] = told(servers[number], what)
        one, servers = look(one, servers)
        for item in servers:
            assert item.holds or item.started_at is None or shown[item.number] >= CLEAN
        if one.over:
            assert not any(item.holds or item.living for item in servers)
    assert judge(one, servers, NOW).state == one.state


CLEAN = 2
"""Steps that must be shown: that it was erased, and that it is as it should be. One that is cordoned has them."""


def told(item: Member, what: str) -> Member:
    begun = item.started_at or NOW
    match what:
        case "start" if item.going:
            return changed(item, state="starting", started_at=begun)
        case "ready" if item.going:
            return changed(item, state="ready", started_at=begun)
        case "fail" if item.going:
            return changed(item, state="failed", reasons=(WHY,))
        case "stop" if item.state == "stopping":
            return changed(item, state="stopped")
    return item


def recorded(item: Member, what: str, shown: Counter[int]) -> Member:
    if item.step not in {"erase", "attest"}:
        return item
    step = "erased" if item.step == "erase" else "attested"
    fact = shows(step, "pass" if what == "clean" else "fail")
    to, _, clean = after_erasure(fact, rehearsal=False)
    shown[item.number] += 1 if clean else CLEAN
    return changed(item, step=to, holds=to != "done")


def turned(one: Any, turn: Any) -> Any:
    return changed(one, state=turn.state, reasons=turn.reasons, spoilt=one.spoilt or turn.spoilt)


def look(one: Any, servers: list[Member]) -> tuple[Any, list[Member]]:
    turn = judge(one, servers, NOW)
    stops = {item.number for item in turn.stops}
    steps = {item.number: step for item, step in turn.steps}
    found = []
    for item in servers:
        step = steps.get(item.number, item.step)
        state = "stopping" if item.number in stops else item.state
        found.append(changed(item, state=state, step=step, holds=item.holds and step != "done"))
    return turned(one, turn), found
