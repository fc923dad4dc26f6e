"""The simulator's watcher finds what must never be, and says nothing where all is as it should be."""

from datetime import UTC, datetime, timedelta

import pytest
from mesh_contracts.placement import Engine, Intent, MemberSpec, Model, Resources, WorkloadSpec
from mesh_contracts.units import derived_id
from mesh_tools.simulate.watcher import GRACE_MS, SAME_MS, Place, Watcher

BEGAN = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
NOW = int(BEGAN.timestamp() * 1_000)
A, B = "node_a", "node_b"
IDLE_W, GPU_W = 100, 10
WHERE = {"french": ["FR"], "any": ["DE", "FR"]}


def place(node_id: str, jurisdiction: str = "FR", pdu: str = "u0") -> Place:
    devices = tuple(f"{node_id}-{card}" for card in range(4))
    return Place(
        node_id=node_id,
        jurisdiction=jurisdiction,
        devices=devices,
        idle_w=IDLE_W,
        gpu_w=GPU_W,
        domains={"pdu": pdu, "leaf": "l0"},
    )


@pytest.fixture
def watcher() -> Watcher:
    return Watcher([place(A), place(B)], WHERE.get)


def workload_id(name: str, after_ms: int = 0) -> str:
    return derived_id("workload", BEGAN + timedelta(milliseconds=after_ms), name)


def member(
    node: str, cards: list[int], job: str = "j", number: int = 0, **fields: object
) -> MemberSpec:
    """Return a member; its id follows from its job, number and attempt alone, wherever it is told."""
    after_ms = fields.pop("after_ms", 0)
    attempt = fields.get("attempt", 1)
    spec = {
        "workload_id": workload_id(f"{job} {number} {attempt}", after_ms),  # type: ignore[arg-type]
        "kind": "job",
        "owner_id": f"job_{job}",
        "organization": "o",
        "project": "p",
        "name": job,
        "number": number,
        "members": 1,
        "devices": [f"{node}-{card}" for card in cards],
        "resources": Resources(gpus=len(cards)),
        **fields,
    }
    return MemberSpec(**spec)  # type: ignore[arg-type]


def replica(node: str, name: str, milli: int) -> WorkloadSpec:
    return WorkloadSpec(
        workload_id=workload_id(name),
        endpoint_id="e",
        organization="o",
        project="p",
        name=name,
        model=Model(id="tiny"),
        engine=Engine(),
        resources=Resources(gpu_milli=milli),
        devices=[f"{node}-0"],
        api_key="k",
    )


def told(watcher: Watcher, node: str, *specs: MemberSpec | WorkloadSpec, at: int = NOW) -> None:
    members = [one for one in specs if isinstance(one, MemberSpec)]
    workloads = [one for one in specs if isinstance(one, WorkloadSpec)]
    watcher.told(node, Intent(node_id=node, workloads=workloads, members=members), at)


def kinds(watcher: Watcher) -> list[str]:
    return sorted(watcher.count)


def test_a_device_given_to_two_jobs_at_once_is_found(watcher: Watcher) -> None:
    told(watcher, A, member(A, [0, 1], "one"), member(A, [1, 2], "two"))
    assert kinds(watcher) == ["device given twice"]
    assert "node_a-1 of node_a" in watcher.breaches[0]


def test_a_device_shared_by_replicas_is_full_at_a_thousand_thousandths(watcher: Watcher) -> None:
    told(watcher, A, replica(A, "one", 600), replica(A, "two", 400))
    assert kinds(watcher) == []
    told(watcher, A, replica(A, "one", 600), replica(A, "two", 400), replica(A, "three", 1))
    assert kinds(watcher) == ["device given twice"]


def test_a_device_is_free_once_its_agent_has_stopped_what_was_there_and_not_before(
    watcher: Watcher,
) -> None:
    first, second = member(A, [0], "one"), member(A, [0], "two")
    told(watcher, A, first)
    told(watcher, A)
    watcher.ended(A, first.workload_id)
    told(watcher, A, second)
    assert kinds(watcher) == []
    told(watcher, A, member(A, [0], "three"))
    assert kinds(watcher) == ["device given twice"], (
        "the second was to stop, and has not said that it did"
    )


def test_what_ended_by_itself_has_nothing_though_it_is_still_listed(watcher: Watcher) -> None:
    first = member(A, [0], "one")
    told(watcher, A, first)
    watcher.ended(A, first.workload_id)
    told(watcher, A, first, member(A, [0], "two"))
    assert kinds(watcher) == []
    assert watcher.held_milli == 1_000


def test_nothing_is_there_of_a_node_without_power_and_all_of_it_once_it_is_back(
    watcher: Watcher,
) -> None:
    told(watcher, A, member(A, [0, 1], "one"))
    watcher.down(A)
    assert watcher.held_milli == 0
    told(watcher, A, member(A, [0, 1], "one"), member(A, [2], "two"))
    assert watcher.held_milli == 0
    watcher.up(A)
    assert watcher.held_milli == 3_000
    assert kinds(watcher) == []


def test_work_in_a_country_where_it_may_not_be_is_found() -> None:
    watcher = Watcher([place(A, "DE")], WHERE.get)
    told(watcher, A, member(A, [0], "any"))
    assert kinds(watcher) == []
    told(watcher, A, member(A, [0], "any"), member(A, [1], "french"))
    assert kinds(watcher) == ["jurisdiction"]


def test_a_member_on_two_nodes_at_once_is_found(watcher: Watcher) -> None:
    told(watcher, A, member(A, [0]))
    told(watcher, B, member(B, [0]))
    assert kinds(watcher) == ["two nodes"]


def test_an_attempt_that_begins_before_the_last_has_ended_is_found(watcher: Watcher) -> None:
    first = member(A, [0])
    told(watcher, A, first)
    told(watcher, A)
    watcher.ended(A, first.workload_id)
    told(watcher, B, member(B, [0], attempt=2))
    assert kinds(watcher) == []
    told(watcher, A, member(A, [1], attempt=3))
    assert kinds(watcher) == ["two attempts"]


def test_a_part_of_the_site_that_draws_more_than_its_cap_by_plan_is_found() -> None:
    watcher = Watcher([place(A), place(B), place("node_c", pdu="u1")], WHERE.get)
    watcher.cap("pdu", "u0", 2 * IDLE_W + 3 * GPU_W)
    watcher.cap("site", "a site", 3 * IDLE_W + 8 * GPU_W)
    told(watcher, A, member(A, [0, 1], "one"))
    told(watcher, B, member(B, [0], "two"))
    told(watcher, "node_c", member("node_c", [0, 1, 2, 3], "three"))
    assert kinds(watcher) == []
    told(watcher, B, member(B, [0], "two"), member(B, [1], "four"))
    assert kinds(watcher) == ["above a cap"]
    assert watcher.breaches == ["above a cap: pdu u0 draws 240 W of 230 W"]


def test_work_that_a_closed_node_is_given_is_found_and_what_was_on_its_way_is_none(
    watcher: Watcher,
) -> None:
    watcher.closed(A, NOW)
    before = member(A, [0], "before", after_ms=SAME_MS)
    told(watcher, A, before)
    told(watcher, A, before, member(A, [1], "after", after_ms=SAME_MS + 1))
    watcher.judge(NOW + GRACE_MS - 1)
    assert kinds(watcher) == []
    watcher.judge(NOW + GRACE_MS)
    assert watcher.count == {"closed node": 1}


def test_a_node_whose_return_is_heard_a_moment_after_what_it_is_given_was_not_closed(
    watcher: Watcher,
) -> None:
    watcher.closed(A, NOW)
    told(watcher, A, member(A, [0], "after", after_ms=9_000), at=NOW + 9_000)
    watcher.opened(A, NOW + 8_500)
    watcher.judge(NOW + 60_000)
    assert kinds(watcher) == []


def test_a_gang_of_which_some_are_told_to_run_and_others_are_not_is_broken(watcher: Watcher) -> None:
    told(watcher, A, member(A, [0], members=2))
    assert watcher.broken() == ["job_j"]
    told(watcher, B, member(B, [0], number=1, members=2))
    assert watcher.broken() == []


def test_who_begins_again_elsewhere_was_moved_and_who_does_on_its_node_was_not(
    watcher: Watcher,
) -> None:
    first = [member(A, [0]), member(A, [1], number=1)]
    told(watcher, A, *first)
    told(watcher, A)
    for one in first:
        watcher.ended(A, one.workload_id)
    told(watcher, A, member(A, [0], attempt=2))
    told(watcher, B, member(B, [1], number=1, attempt=2))
    assert (watcher.begun, watcher.moved, watcher.restarted) == (4, 1, 1)
    assert kinds(watcher) == []
