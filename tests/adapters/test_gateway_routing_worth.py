"""What routing by prefix is worth, on simulated engines that state their costs: more hits, sooner a first token."""

import random
from statistics import fmean

import pytest
from mesh_contracts.placement import Replica, Routing
from mesh_tools.bench.arrivals import WORKLOADS
from mesh_tools.bench.caller import replay
from mesh_tools.bench.costs import Costs
from mesh_tools.bench.simulator import simulators
from meshkit.testing import test_id

from tests.adapters.gateways import Town

pytestmark = pytest.mark.slow

REPLICAS = 8
SEED, REQUESTS, RATE_PER_S = 5, 200, 80.0
COSTS = Costs(prefill_us=30.0, decode_us=500.0)
LOSES_AT_MOST = 1.25


async def routed(here: Town, by: str, workload: str) -> tuple[float, float]:
    """Return the share of prompt tokens that were cached, and the mean simulated time to a first token."""
    arrivals = WORKLOADS[workload](random.Random(SEED), REQUESTS, RATE_PER_S)
    async with simulators(REPLICAS, COSTS) as engines:
        replicas = [
            Replica(
                workload_id=test_id("workload", f"{by}-{number}"), address=engine.address, api_key="k"
            )
            for number, engine in enumerate(engines)
        ]
        name = f"{by}-{workload}".replace("_", "-")
        await here.serve(
            *replicas,
            name=name,
            engine="vllm",
            model_id=name,
            routing=Routing(by=by),  # type: ignore[arg-type]
        )
        heard = await replay(here.door.port, here.key, name, arrivals)
        assert all(one.whole for one in heard)
        prompt = sum(engine.counts.prompt_tokens for engine in engines)
        cached = sum(engine.counts.cached_tokens for engine in engines)
    return cached / prompt, fmean(one.simulated_s for one in heard if one.simulated_s is not None)


async def test_routing_by_prefix_finds_more_in_caches_and_answers_sooner_than_taking_turns(
    here: Town,
) -> None:
    turns_hit, turns_s = await routed(here, "round_robin", "shared")
    prefix_hit, prefix_s = await routed(here, "prefix", "shared")
    assert prefix_hit > turns_hit
    assert prefix_s < turns_s


async def test_routing_by_prefix_does_not_lose_where_nothing_is_shared(here: Town) -> None:
    _, turns_s = await routed(here, "round_robin", "alone")
    _, prefix_s = await routed(here, "prefix", "alone")
    assert prefix_s <= turns_s * LOSES_AT_MOST
