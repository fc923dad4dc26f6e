"""The simulated engine costs what it states, and the arrivals are those of their seed."""

import asyncio
import random
from statistics import mean, pvariance

from mesh_tools.bench.arrivals import WORKLOADS, Arrival, Message, gaps, shared
from mesh_tools.bench.caller import replay
from mesh_tools.bench.costs import Costs, PrefixCache, Timeline
from mesh_tools.bench.simulator import simulators, tokens_of

CHEAP = Costs(prefill_us=0, decode_us=0, slots=2, cache_blocks=4)


def test_a_cache_holds_what_leads_up_to_a_block_and_forgets_the_least_recently_used() -> None:
    cache = PrefixCache(block_tokens=2, blocks_max=3)
    assert cache.take(["a", "b", "c", "d", "e"]) == 0
    assert cache.take(["a", "b", "c", "d", "x"]) == 4
    assert cache.take(["x", "b", "c", "d"]) == 0
    assert len(cache) == 3
    # The two blocks of the other prompt took the place of the oldest.
    assert cache.take(["a", "b"]) == 0


def test_the_gaps_have_the_mean_that_was_asked_for_and_the_spread_of_a_burst() -> None:
    chance = random.Random(1)
    drawn = gaps(chance, 10.0, 0.5)
    taken = [next(drawn) for _ in range(20_000)]
    assert abs(mean(taken) - 0.1) < 0.005
    # The variance of a Gamma distribution over its mean's square is one over its shape.
    assert abs(pvariance(taken) / mean(taken) ** 2 - 2.0) < 0.2


def test_one_seed_gives_one_list_of_arrivals_and_only_shared_ones_share() -> None:
    for workload in WORKLOADS.values():
        assert workload(random.Random(7), 50, 10.0) == workload(random.Random(7), 50, 10.0)
    begins = {
        name: {one.messages[0].content for one in make(random.Random(7), 200, 10.0)}
        for name, make in WORKLOADS.items()
    }
    assert len(begins["alone"]) == 200
    assert len(begins["shared"]) <= 32
    assert max(len(one.messages) for one in shared(random.Random(7), 200, 10.0)) > 3


def test_a_timeline_counts_prefills_in_turn_and_holds_what_finds_no_slot() -> None:
    line = Timeline(Costs(prefill_us=1e6, decode_us=1e6, slots=2))
    assert line.first_s(0.0, uncached=2, answered=5) == 3.0
    assert line.first_s(1.0, uncached=1, answered=1) == 3.0
    # Both slots are taken until the first of the two ends, at 4.
    assert line.first_s(3.0, uncached=0, answered=1) == 2.0


async def test_a_simulated_engine_answers_in_slots_and_counts_what_it_kept() -> None:
    messages = [Message("user", "one two three " * 16)]
    asked = [Arrival(at_s=0.0, session=0, messages=messages, answer_tokens=3)] * 5
    async with simulators(1, CHEAP) as (engine,):
        heard = await replay(int(engine.address.split(":")[1]), "k", "m", asked)
        assert [(one.whole, one.words) for one in heard] == [(True, 3)] * 5
        assert engine.counts.finished == 5
        assert engine.counts.made_tokens == 15
        tokens = len(tokens_of({"messages": [{"role": "user", "content": messages[0].content}]}))
        assert engine.counts.prompt_tokens == 5 * tokens
        assert engine.counts.cached_tokens == 4 * 48
        assert 'vllm:prefix_cache_hits_total{model_name="simulated-engine"} 192' in engine.metrics()
        assert engine.counts.running == engine.counts.waiting == 0


async def test_a_frozen_engine_says_nothing_and_a_killed_one_is_gone() -> None:
    asked = [Arrival(at_s=0.0, session=0, messages=[Message("user", "x")], answer_tokens=1)]
    async with simulators(2, CHEAP) as (frozen, killed):
        frozen.freeze()
        killed.kill()
        ports = [int(engine.address.split(":")[1]) for engine in (frozen, killed)]
        late, refused = await asyncio.gather(
            *(replay(port, "k", "m", asked, within_s=0.3) for port in ports)
        )
        assert (late[0].status, late[0].error) == (0, "TimeoutError")
        assert refused[0].error == "ConnectionRefusedError"
        frozen.thaw()
        assert (await replay(ports[0], "k", "m", asked))[0].whole
