"""What the engine is asked for: a job member by member, a lease server by server."""

from typing import Any

import pytest
from mesh_contracts.placement import Near, Reason, Residency, Resources
from placement.domain.built import spec_of
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import Size
from placement.domain.fleet import Card, Server
from placement.domain.watts import by_domain, over, planned
from placement.domain.wishes import power_domain, wish_of_job, wish_of_lease

from tests.domain.holdings import NOW, job, later, lease


def server(
    name: str, gpus: int = 4, *, model: str = "h200", free: int = 1_000, **fields: Any
) -> Server:
    cards = tuple(
        Card(
            device_id=f"{name}-{n}",
            index=n,
            card=n,
            model=model,
            memory_mib=1,
            rehearsal=True,
            free_milli=free,
        )
        for n in range(gpus)
    )
    known = {"site": "fr-idf-1", "state": "ready", "generation": 1, "jurisdiction": "FR", "since": NOW}
    room = {"memory_mib": 64, "memory_free_mib": 64}
    return Server(node_id=name, name=name, cards=cards, **{**known, **room, **fields})


def test_a_job_asks_for_its_members_on_its_tenants_terms_and_waits() -> None:
    wish = wish_of_job(
        job(
            wished={
                "members": 16,
                "resources": Resources(gpus=8, gpu_model="h200", memory_mib=9, cpu_milli=7),
                "residency": Residency(jurisdictions=["FR", "DE", "FR"]),
                "near": Near(level="leaf", segment=4),
                "isolation": "rack",
                "assurances": ("hds",),
                "min_run_s": 60,
                "restart_loses_s": 10,
                "run_max_s": 3_600,
            }
        )
    )
    assert wish.size == Size(gpus=8, models=("h200",), memory_mib=9, cpu_milli=7)
    assert (wish.members, wish.near.level, wish.near.segment, wish.near.required) == (
        16,
        "leaf",
        4,
        True,
    )
    assert (wish.terms.jurisdictions, wish.terms.isolation) == (("DE", "FR"), "rack")
    assert wish.terms.tenant == wish.organization
    assert (wish.queue, wish.preemptible, wish.min_run_ms, wish.run_ms) == (
        True,
        True,
        60_000,
        3_600_000,
    )
    assert wish.restart_cost == 16 * 8 * 10


def spec(*given: Any, **fields: Any) -> NodeSpec:
    return spec_of(server(*given, **fields))


def test_a_lease_is_alone_with_itself_and_takes_all_gpus_of_its_kind_of_spec() -> None:
    fleet = [spec("a"), spec("b"), spec("big", 8), spec("cpu", 0)]
    wish = wish_of_lease(lease(wished={"nodes": 2}), fleet)
    assert not isinstance(wish, Reason)
    assert (wish.size, wish.members) == (Size(gpus=4, models=("h200",)), 2)
    assert (wish.terms.tenant, wish.terms.isolation) == (wish.workload, "node")
    assert (wish.queue, wish.preemptible) == (False, False)
    cpu = wish_of_lease(lease(wished={"nodes": 1, "gpus_per_node": 0}), fleet)
    assert not isinstance(cpu, Reason)
    assert cpu.size == Size()


@pytest.mark.parametrize(
    ("wished", "gpus"),
    [({}, 4), ({"gpus_per_node": 8}, 8), ({"gpu_model": "b300"}, 2)],
)
def test_of_several_kinds_of_server_the_one_is_meant_that_most_are(
    wished: dict[str, Any], gpus: int
) -> None:
    fleet = [spec("big", 8), spec("a"), spec("b"), spec("new", 2, model="b300")]
    for order in (fleet, fleet[::-1]):
        wish = wish_of_lease(lease(wished={"nodes": 1, **wished}), order)
        assert not isinstance(wish, Reason)
        assert wish.size.gpus == gpus


def test_whole_domains_are_as_many_servers_as_most_domains_have_each_in_one() -> None:
    fleet = [spec(f"{domain}{n}", place={"nvlink": domain}) for domain in "abc" for n in range(4)]
    fleet.append(spec("lone", place={"nvlink": "d"}))
    wish = wish_of_lease(lease(wished={"nodes": 0, "domains": 2}), fleet)
    assert not isinstance(wish, Reason)
    assert (wish.members, wish.near.segment, wish.terms.isolation) == (8, 4, "nvlink")


@pytest.mark.parametrize(
    ("wished", "code"),
    [
        ({"nodes": 1, "gpu_model": "imagined"}, "no_such_server"),
        ({"nodes": 1, "gpus_per_node": 3}, "no_such_server"),
        ({"nodes": 0, "domains": 1}, "no_such_domain"),
        ({"nodes": 0, "domains": 4_096, "gpu_model": "b300"}, "too_many_servers"),
    ],
)
def test_servers_that_there_are_none_of_are_a_reason_with_what_to_do(
    wished: dict[str, Any], code: str
) -> None:
    racked = [spec(f"r{n}", model="b300", place={"nvlink": "d"}) for n in range(2)]
    reason = wish_of_lease(lease(wished=wished), [spec("a"), spec("b"), spec("c"), *racked])
    assert isinstance(reason, Reason)
    assert (reason.code, bool(reason.unblock)) == (code, True)


def test_a_lease_that_waits_and_ends_says_so_to_the_engine() -> None:
    timed = lease(wished={"nodes": 1, "wait_s": 9}, due_at=later(60))
    wish = wish_of_lease(timed, [spec("a")])
    assert not isinstance(wish, Reason)
    assert (wish.queue, wish.run_ms) == (True, 60_000)


def test_watts_by_plan_are_idle_ones_and_those_of_each_gpu_that_is_held_in_part() -> None:
    watts: dict[str, Any] = {"idle_w": 100, "gpu_w": 50}
    idle = server("a", place={"rack": "r1", "pdu": "p1", "nvlink": "d"}, **watts)
    busy = server("b", free=999, place={"rack": "r1"}, **watts)
    assert (planned(idle), planned(busy)) == (100, 300)
    sums = by_domain([idle, busy])
    assert sums == {("site", "fr-idf-1"): 400, ("rack", "r1"): 400, ("pdu", "p1"): 100}
    assert over(400, 400) == over(None, 400) == ()
    assert over(399, 400)[0].count == 1
    assert (power_domain("site", "fr-idf-1"), power_domain("rack", "r1")) == ("site", "r1")
