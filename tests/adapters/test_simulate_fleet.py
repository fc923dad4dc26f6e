"""A small hall of simulated agents on real servers: it fills, breaks and mends, and nothing is given twice."""

import asyncio

import pytest
from mesh_tools.simulate.running import Wanted, simulate

pytestmark = pytest.mark.slow


async def test_a_small_hall_fills_breaks_and_mends_without_a_breach() -> None:
    wanted = Wanted(
        gpus=128, hours=0.6, seed=7, speed=600.0, load=1.0, gang_share=0.6, fault_times=4_000.0
    )
    found = await simulate(wanted, asyncio.Event(), print)
    assert found.sound, found.breaches_said
    assert found.simulated_h == pytest.approx(0.6, rel=0.3)
    assert found.allocation_mean_pct > 0
    assert found.asks == found.placed + found.queued + found.refused
    assert found.members_begun > 0
    assert set(found.failures) == {"gpu", "member", "node"}
    assert found.nodes_cordoned + found.breaker_tripped > 0
    assert found.members_restarted + found.members_moved > 0
    assert found.decisions_peak_per_s > 0
    assert found.heartbeats >= found.nodes


async def test_a_simulation_that_is_stopped_ends_with_what_there_is() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(3.0, stop.set)
    wanted = Wanted(gpus=64, hours=100.0, seed=1, speed=60.0, load=0.5, gang_share=0.0, fault_times=0.0)
    found = await simulate(wanted, stop, print)
    assert found.interrupted
    assert found.sound, found.breaches_said
