"""What a maintenance window makes of a node, which windows can be, and who is in the way of one or waits for it."""

from datetime import timedelta
from typing import Any

import pytest
from mesh_contracts.node import HealthChanged
from mesh_contracts.placement import NodeState, PlanMaintenance, Reason
from meshkit.testing import NOW, envelope, wish
from placement.domain.engine.notice import Maintained
from placement.domain.engine.size import Size
from placement.domain.engine.wish import Wish
from placement.domain.fleet import Server
from placement.domain.health import on_checked, on_cordoned, on_drained, on_draining, on_returned
from placement.domain.maintenance import (
    REMAIN_MAX,
    Window,
    bad_window,
    missing_of,
    on_begun,
    on_over,
    overlapping,
    remain,
    show_window,
    waits_for,
    why,
)

from tests.domain.halls import HOUR, Hall
from tests.domain.test_placement_decide import server


def window(**fields: Any) -> Window:
    known = {
        "window_id": "window_1",
        "site": "fr-idf-1",
        "state": "active",
        "nodes": ("n1",),
        "names": ("n1",),
        "starts_at": NOW,
        "ends_at": NOW + timedelta(hours=4),
        "reason": "new fans",
        "planned_by": "key_1",
        "created_at": NOW,
        "since": NOW,
    }
    return Window(**{**known, **fields})


def codes(reasons: tuple[Reason, ...]) -> list[str]:
    return [one.code for one in reasons]


def then(before: Server, turn: Any) -> Server:
    return server(
        state=turn.state,
        reasons=turn.reasons,
        check_wished=turn.check_wished,
        check_needed=turn.check_needed,
        generation=before.generation,
    )


@pytest.mark.parametrize("state", ["ready", "validating"])
def test_a_node_that_only_its_window_took_out_is_checked_and_comes_back(state: NodeState) -> None:
    warned = Reason(code="health_warn", detail="a little slow")
    node = server(state=state, reasons=(warned,))
    out = then(node, on_begun(node, window()))
    assert (out.state, codes(out.reasons)) == ("draining", ["maintenance"])
    empty = then(out, on_drained(out))
    assert (empty.state, codes(empty.reasons)) == ("repairing", ["maintenance"])
    back = on_over(empty)
    assert (back.state, back.check_needed) == ("validating", node.check_wished + 1)


def test_a_node_that_somebody_else_took_out_stays_out_when_its_window_is_over() -> None:
    for took, empties, stays in (
        (lambda one: on_cordoned(one, "fan"), False, "cordoned"),
        (lambda one: on_cordoned(one, "fan"), True, "cordoned"),
        (lambda one: on_draining(one, "fan"), False, "draining"),
        (lambda one: on_draining(one, "fan"), True, "repairing"),
    ):
        node = then(server(), took(server()))
        out = then(node, on_begun(node, window()))
        assert codes(out.reasons) == [*codes(node.reasons), "maintenance"]
        out = then(out, on_drained(out)) if empties else out
        assert out.state == ("repairing" if empties else "draining"), "work leaves either way"
        left = on_over(out)
        assert left.state == stays
        assert "fan" in left.reasons[0].detail
        assert "maintenance" not in codes(left.reasons)


def test_a_check_that_fails_before_the_window_keeps_the_node_out_after_it() -> None:
    failed = HealthChanged(
        **envelope("n1"), node_id="n1", verdict="fail", level="quick", check=0, checks=[]
    )
    node = then(server(), on_checked(server(), failed))
    out = on_over(then(node, on_begun(node, window())))
    assert (out.state, codes(out.reasons)) == ("cordoned", ["health_fail"])


def test_a_node_that_restarts_meanwhile_is_taken_out_again_and_says_it_once() -> None:
    node = then(server(), on_begun(server(), window()))
    again = then(node, on_returned(node))
    assert codes(again.reasons) == ["being_checked"]
    assert codes(missing_of(again, [window()])) == ["maintenance"]
    out = then(again, on_begun(again, window(window_id="window_2")))
    assert codes(out.reasons) == ["maintenance"]
    assert missing_of(out, [window(window_id="window_2")]) == ()


def test_a_node_says_until_when_and_of_a_window_to_come_from_when() -> None:
    assert "until 2026-" in why(window()).detail
    assert "new fans" in why(window()).detail
    assert "until it is cancelled" in why(window(ends_at=None)).detail
    planned = why(window(state="planned"))
    assert (planned.code, " from 2026-" in planned.detail) == ("maintenance_planned", True)


@pytest.mark.parametrize(
    ("fields", "param", "word"),
    [
        ({"ends_at": NOW}, "ends_at", "after starts_at"),
        ({"starts_at": NOW - timedelta(hours=2), "ends_at": NOW}, "ends_at", "passed"),
        ({"starts_at": NOW + timedelta(days=400), "ends_at": None}, "starts_at", "a year"),
        ({"ends_at": NOW + timedelta(days=400)}, "ends_at", "a year"),
        ({"reason": " "}, "reason", "say what"),
        ({}, None, ""),
        ({"starts_at": NOW - timedelta(hours=2)}, None, ""),
        ({"ends_at": None}, None, ""),
    ],
)
def test_a_window_that_cannot_be_meant_is_refused_with_what_to_write(
    fields: dict[str, Any], param: str | None, word: str
) -> None:
    asked = {"starts_at": NOW, "ends_at": NOW + timedelta(hours=1), "reason": "fans", **fields}
    fault = bad_window(PlanMaintenance(**wish(), nodes=["n1"], **asked), NOW)
    assert (fault.param if fault else None) == param
    assert fault is None or word in fault.detail


def test_what_cannot_be_preempted_has_an_hour_from_the_plan_and_its_start_at_least() -> None:
    assert window().drains_until == NOW + timedelta(hours=1)
    late = window(starts_at=NOW + timedelta(hours=3))
    assert late.drains_until == late.starts_at


def test_a_window_overlaps_what_is_booked_to_come_and_not_what_sits_there_already() -> None:
    hall = Hall(domains=2, nodes=1)

    def of(start: int, end: int | None, node: str = "d0n0") -> Maintained:
        return Maintained(window="w", start=start, end=end, nodes=(node,), at=hall.now)

    kept = hall.reserve("acme", 2 * HOUR, 4 * HOUR, nodes=("d0n0",)).name
    hall.maintain(8 * HOUR, None, nodes=("d0n0",))
    found = overlapping(hall.engine, of(3 * HOUR, 5 * HOUR))
    assert found is not None
    assert (found[0].name, found[1]) == (kept, "d0n0")
    assert overlapping(hall.engine, of(HOUR, 2 * HOUR)) is None
    assert overlapping(hall.engine, of(4 * HOUR, 5 * HOUR)) is not None, "it is wiped then"
    assert overlapping(hall.engine, of(5 * HOUR, 8 * HOUR)) is None
    assert overlapping(hall.engine, of(5 * HOUR, None)) is not None
    assert overlapping(hall.engine, of(0, None, "d1n0")) is None


def test_who_will_have_left_by_the_start_is_not_in_the_way_and_leases_are_named_first() -> None:
    hall = Hall(domains=1, nodes=1)
    stays = hall.placed("a", 1).workload
    hall.placed("a", 1, run_ms=HOUR)
    metal = hall.placed("a", 1, kind="lease").workload
    name = hall.maintain(3 * HOUR, 4 * HOUR, nodes=("d0n0",)).name
    found = remain(hall.engine, [name, "unknown"])
    assert [one.id for one in found[name]] == [metal, stays]
    assert found["unknown"] == []
    shown = show_window(window(window_id=name), found[name])
    assert (shown.reasons[0].code, shown.reasons[0].count) == ("leases_in_the_way", 1)
    assert metal in shown.reasons[0].detail
    hall.tick(3 * HOUR)
    assert len(remain(hall.engine, [name])[name]) == 3, "who is there though its time is over is there"
    many = show_window(window(), found[name] * REMAIN_MAX)
    assert (len(many.remain), many.remain_count) == (REMAIN_MAX, 2 * REMAIN_MAX)
    assert show_window(window(state="ended"), found[name]).remain == []


def test_work_is_told_of_windows_on_nodes_that_have_room_for_it_and_of_no_others() -> None:
    hall = Hall(domains=2, nodes=1)
    hall.placed("a", 4)
    hall.maintain(5 * HOUR, 6 * HOUR, nodes=("d0n0", "d1n0"))

    def told(**fields: Any) -> list[Reason]:
        known = {"workload": "x", "organization": "o", "project": "p", "kind": "job"}
        return list(waits_for(hall.engine, Wish(**{**known, "size": Size(gpus=4), **fields})))

    (reason,) = told()
    assert (reason.code, reason.count, "run_max_s" in str(reason.unblock)) == ("maintenance", 1, True)
    assert told(run_ms=HOUR) == [], "it would have left"
    assert told(size=Size(gpus=5)) == [], "it would fit on none of them"
    assert told(size=Size(gpus=1, models=("other",))) == []
    hall.tick(5 * HOUR)
    hall.turn("d0n0", closed=True)
    hall.turn("d1n0", closed=True)
    (reason,) = told()
    assert (reason.count, "wait until then" in str(reason.unblock)) == (1, True)
    hall.tick(6 * HOUR)
    assert told() == [], "whoever has them out now has them for another reason"
