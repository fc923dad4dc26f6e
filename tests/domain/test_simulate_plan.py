"""What is asked for in a simulation follows from its seed, and asks for as much as it is to."""

from itertools import islice
from pathlib import Path

import pytest
from mesh_tools.simulate import plan

GPUS = 18_000


def drawn(seed: int, load: float = 1.0) -> plan.Plan:
    return plan.Plan(seed, GPUS, load, sizes=plan.built_in(), gang_share=0.6)


def test_the_same_seed_asks_for_the_same_at_the_same_times_and_another_does_not() -> None:
    one, same, other = (list(islice(drawn(seed).arrivals(), 200)) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_what_is_there_at_the_start_fills_the_site_to_its_load() -> None:
    there = list(drawn(3, load=0.5).there())
    asked = sum(one.milli for one in there) / plan.MILLI
    assert GPUS * 0.5 <= asked <= GPUS * 0.5 + 512


def test_who_comes_asks_for_as_much_gpu_time_as_passes_on_the_site() -> None:
    load = 0.8
    comes = list(islice(drawn(4, load).arrivals(), 60_000))
    asked_s = sum(one.milli * one.run_s for one in comes) / plan.MILLI
    assert asked_s / (comes[-1].at_s * GPUS) == pytest.approx(load, rel=0.1)


def test_gangs_ask_for_their_part_of_all_and_are_whole_servers() -> None:
    comes = list(islice(drawn(5).arrivals(), 40_000))
    gangs = [one for one in comes if one.members > 1]
    assert all(one.resources.gpus == plan.SERVER_GPUS for one in gangs)
    # Gangs of one server look as other jobs of eight GPUs do.
    assert 0.45 < sum(one.milli for one in gangs) / sum(one.milli for one in comes) < 0.62


def test_as_much_breaks_as_is_published_and_nothing_where_nothing_is_to() -> None:
    hours = 24 * 365
    kinds = [
        kind
        for at_s, kind in islice(plan.Faults(6, GPUS, 1.0).all(), 20_000)
        if at_s < hours * plan.HOUR_S
    ]
    assert len(kinds) == pytest.approx(hours * GPUS / (1_024 * 8), rel=0.05)
    assert kinds.count("gpu") / len(kinds) == pytest.approx(268 / 21_233_664 * 8_192, rel=0.1)
    assert list(plan.Faults(6, GPUS, 0.0).all()) == []


def test_a_trace_s_sizes_are_those_of_its_pods_that_ask_for_gpus(tmp_path: Path) -> None:
    trace = tmp_path / "pods.csv"
    head = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
    trace.write_text(
        f"{head}a,4000,1024,1,500,\nb,4000,1024,1,500,V100\nc,1000,64,0,0,\nd,90000,64,2,1000,\n"
    )
    sizes = [(each.gpus, each.gpu_milli, each.cpu_milli, many) for each, many in plan.of_trace(trace)]
    assert sizes == [(0, 500, 4_000, 2), (2, 0, 24_000, 1)]
    trace.write_text("name,what\na,1\n")
    with pytest.raises(ValueError, match=r"pods\.csv is no list of pods"):
        plan.of_trace(trace)


def test_when_what_breaks_is_the_same_however_often_it_was_asked_whom_it_befell() -> None:
    asked, unasked = plan.Faults(6, GPUS, 1.0), plan.Faults(6, GPUS, 1.0)
    seen = []
    for fault in islice(asked.all(), 50):
        seen.append(fault)
        asked.which(8)
        asked.repair_s()
    assert seen == list(islice(unasked.all(), 50))
