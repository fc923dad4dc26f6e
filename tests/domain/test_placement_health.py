"""A node takes work only while its last check shows that it is sound."""

from typing import Any

import pytest
from mesh_contracts.node import Check, HealthChanged
from mesh_contracts.placement import Reason
from meshkit.testing import envelope
from msgspec.structs import replace
from placement.domain.fleet import MAINTENANCE, Server
from placement.domain.health import (
    HELD,
    Turn,
    last_checks,
    on_checked,
    on_cordoned,
    on_drained,
    on_draining,
    on_heard,
    on_joined,
    on_lost,
    on_returned,
    on_unclean,
)

from tests.domain.test_placement_decide import server


def then(before: Server, turn: Turn) -> Server:
    """Return a node once it has turned."""
    told = {field: getattr(turn, field) for field in Turn.__struct_fields__}
    return replace(before, **told)


def verdict(kind: str = "pass", check: int = 0) -> HealthChanged:
    found = Check(
        name="gemm",
        device_id="rehearsal-0",
        verdict=kind,
        backend="numpy",
        rehearsal=True,
        took_ms=5,
        detail="wrong product",
        evidence={"row": 17},
    )
    return HealthChanged(
        **envelope("n1"), node_id="n1", verdict=kind, level="quick", check=check, checks=[found]
    )


@pytest.mark.parametrize("state", ["enrolled", "ready"])
def test_a_node_that_joins_is_checked_before_it_takes_new_work(state: str) -> None:
    joined = on_joined(server(state=state, check_needed=7))
    assert joined.state == "validating"
    assert (
        on_checked(server(state="validating", check_needed=joined.check_needed), verdict()).state
        == "ready"
    )


def test_a_restart_does_not_return_a_cordoned_node() -> None:
    assert on_joined(server(state="cordoned")).state == "cordoned"
    assert on_checked(server(state="cordoned"), verdict()).state == "cordoned"


@pytest.mark.parametrize("silent", [False, True])
def test_a_restart_does_not_spare_a_node_the_check_of_its_return(silent: bool) -> None:
    node = then(server(), on_returned(server(state="cordoned", check_wished=4)))
    if silent:
        node = then(node, on_lost(node, 12_000))
    joined = on_joined(node)
    assert joined.state == "validating"
    assert on_checked(then(server(), joined), verdict(check=4)).state == "validating"
    assert on_checked(then(server(), joined), verdict(check=5)).state == "ready"


FAULTY = on_checked(server(), verdict("fail"))
OUT = {
    "an operator": on_cordoned(server(), "its fans are looked at"),
    "a check": FAULTY,
    "a lease that left data": on_unclean(server(), Reason(code="not_erased", detail="disk 0")),
    "an operator who empties it": on_draining(server(), "its fans are looked at"),
    "one who has emptied it": on_drained(then(server(), on_draining(server(), "fans"))),
}


@pytest.mark.parametrize("who", OUT)
@pytest.mark.parametrize("back", [on_joined, on_heard])
def test_a_node_that_was_taken_out_stays_so_when_it_is_switched_off_and_on(who: str, back: Any) -> None:
    """A fault is not mended, and data are not erased, by the silence of a reboot."""
    before = then(server(), OUT[who])
    lost = then(before, on_lost(before, 12_000))
    assert lost.state == "lost"
    assert [one.code for one in lost.reasons] == ["silent", *(one.code for one in before.reasons)]
    again = then(lost, back(lost))
    assert (again.state, again.reasons) == (before.state, before.reasons)
    assert on_checked(again, verdict()).state == before.state


@pytest.mark.parametrize("back", [on_joined, on_heard])
def test_a_node_that_nobody_took_out_is_checked_once_it_is_heard_again(back: Any) -> None:
    for state in ("ready", "validating"):
        lost = then(server(), on_lost(server(state=state), 12_000))
        assert back(lost).state == "validating"


def test_a_window_takes_out_itself_whoever_was_switched_off_in_it() -> None:
    worked_on = server(state="repairing", reasons=(Reason(code=MAINTENANCE, detail="fans"),))
    assert [one.code for one in on_lost(worked_on, 12_000).reasons] == ["silent"]


@pytest.mark.parametrize("kind", ["fail", "inconclusive"])
@pytest.mark.parametrize("state", ["validating", "ready"])
def test_a_check_that_does_not_pass_takes_the_node_out_and_names_the_row(kind: str, state: str) -> None:
    turn = on_checked(server(state=state), verdict(kind))
    assert turn.state == "cordoned"
    assert turn.reasons[0].code == f"health_{kind}"
    for part in ("rehearsal-0", "row 17", "rehearsal)"):
        assert part in turn.reasons[0].detail


def test_a_returned_node_waits_for_a_check_newer_than_the_wish() -> None:
    turn = on_returned(server(state="cordoned", check_wished=4))
    assert (turn.state, turn.check_wished, turn.check_needed) == ("validating", 5, 5)
    node = server(state="validating", check_wished=5, check_needed=5)
    assert on_checked(node, verdict(check=4)).state == "validating"
    assert on_checked(node, verdict(check=5)).state == "ready"


@pytest.mark.parametrize("kind", ["pass", "fail"])
@pytest.mark.parametrize("state", ["validating", "cordoned", "lost"])
def test_the_next_check_is_above_all_that_the_node_has_run(kind: str, state: str) -> None:
    forgotten = server(state=state, check_wished=0)
    heard = on_checked(forgotten, verdict(kind, check=5))
    assert heard.check_wished == 5
    returned = on_returned(server(state="cordoned", check_wished=heard.check_wished))
    assert (returned.check_wished, returned.check_needed) == (6, 6)
    assert on_checked(server(check_wished=9), verdict(check=5)).check_wished == 9


def test_a_late_verdict_does_not_bring_a_lost_node_back() -> None:
    assert on_checked(server(state="lost"), verdict()).state == "lost"


def test_an_operator_gives_the_reason_for_a_cordon() -> None:
    assert on_cordoned(server(), "fan is loud").reasons[0].detail == "fan is loud"


def test_what_could_not_be_checked_is_a_reason_until_a_check_passes() -> None:
    opened = on_checked(server(state="validating"), verdict("warn"))
    assert (opened.state, [reason.code for reason in opened.reasons]) == ("ready", ["health_warn"])
    held = Reason(code="breaker_open", detail="too many at once")
    later = on_checked(server(state="ready", reasons=(*opened.reasons, held)), verdict())
    assert (later.state, later.reasons) == ("ready", (held,))


def test_what_the_breaker_held_up_is_a_reason_until_the_check_wished_then_passes() -> None:
    failed = Reason(code="health_fail", detail="gemm, row 17")
    held = Reason(code=HELD, detail="2 nodes did within 10 minutes")
    for reasons, number, left in (
        ((failed, held), 8, (failed, held)),
        ((failed,), 7, (failed,)),
        ((failed,), 8, ()),
    ):
        now = server(state="ready", reasons=reasons, check_wished=8, check_needed=8)
        turn = on_checked(now, replace(verdict(), check=number))
        assert (turn.state, turn.reasons) == ("ready", left), (reasons, number)


def test_a_check_of_one_device_leaves_what_is_known_of_the_others() -> None:
    node = server(state="ready")
    card = node.cards[0]
    other, gone = (replace(verdict().checks[0], device_id=name) for name in (card.device_id, "gone"))
    node = replace(node, checks=(other, gone))
    (now,) = verdict().checks
    fresh = replace(now, device_id="rehearsal-9")
    assert last_checks(node, [fresh]) == [other, fresh]
    again = replace(now, device_id=card.device_id, verdict="fail")
    assert last_checks(node, [again]) == [again]
