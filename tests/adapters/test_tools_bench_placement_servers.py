"""The placement benchmark's parts that need servers, at a size that fits a gate."""

import pytest
from mesh_tools.bench.placement.endtoend import end_to_end
from mesh_tools.bench.placement.restart import restart

pytestmark = pytest.mark.slow


def test_asks_are_reserved_end_to_end_and_each_is_answered() -> None:
    found = end_to_end(3_200, 150, at_once=(8,), rates=(100.0,))
    for run in found["runs"]:
        assert sum(run["outcomes"].values()) == 150
        assert run["outcomes"]["admitted"] > 0
        assert 0 < run["p50_ms"] <= run["p99_ms"]
    assert found["runs"][0]["cpu_us_an_ask"]["placement"] > 0


def test_a_start_decides_the_tail_of_a_log_again_and_comes_to_the_same() -> None:
    found = restart(800, 2_000, tail=400, seed=3)
    assert (found["events"], found["decided_again"]) == (2_000, 400)
    assert found["workloads"] > 100
