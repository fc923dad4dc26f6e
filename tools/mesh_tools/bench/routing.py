"""``mesh bench routing``: time to first token by routing policy, in one run, over simulated engines.

Eight simulated engines (``simulator``, ours, with a stated cost of prefill and a bounded prefix cache)
stand behind one gateway. The same arrivals (``arrivals``, from one seed) are replayed under each policy,
on traffic with shared prefixes and on traffic without, from empty caches each time. The time to first
token is counted by the engines' stated costs, so that a busy machine changes it only as far as it makes
the gateway choose otherwise; what the caller's clock said stands beside it.
"""

import argparse
import json
import random
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import uvloop
from mesh_contracts.placement import Routing

from mesh_tools.bench.arrivals import WORKLOADS, Arrival
from mesh_tools.bench.caller import Heard, replay
from mesh_tools.bench.costs import Costs
from mesh_tools.bench.one_door import OneDoor, one_door
from mesh_tools.bench.simulator import Simulator, simulators

Policy = Literal["round_robin", "least_load", "prefix"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
REPLICAS = 8
REQUESTS = 320
RATE_PER_S = 16.0
"""A third of what eight engines can prefill without any cache, in bursts; slow enough for the policy,
and not the benchmark's own machine, to decide."""
SEED = 2401


def main(argv: list[str], *, as_json: bool) -> int:
    """Print the comparison; with ``as_json`` the last line is one object."""
    parser = argparse.ArgumentParser(prog="mesh bench routing")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--rate", type=float, default=RATE_PER_S)
    parser.add_argument("--seed", type=int, default=SEED)
    wanted = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as folder:
        figures = uvloop.run(_measure(Path(folder), wanted.requests, wanted.rate, wanted.seed))
    _show(figures)
    if as_json:
        print(json.dumps(figures))
    return 0


async def _measure(folder: Path, requests: int, rate_per_s: float, seed: int) -> dict[str, Any]:
    costs = Costs()
    found: dict[str, Any] = {}
    async with simulators(REPLICAS, costs) as engines, one_door(folder) as door:
        for workload, make in WORKLOADS.items():
            arrivals = make(random.Random(seed), requests, rate_per_s)  # noqa: S311 it has to be repeatable
            found[workload] = {
                policy: await _under(door, engines, f"{workload}-{policy}", policy, arrivals)
                for policy in POLICIES
            }
    return {
        "simulated": True,
        "replicas": REPLICAS,
        "requests": requests,
        "rate_per_s": rate_per_s,
        "seed": seed,
        "prefill_us_per_token": costs.prefill_us,
        "decode_us_per_token": costs.decode_us,
        "slots": costs.slots,
        "cache_tokens": costs.cache_blocks * costs.block_tokens,
        "workloads": found,
    }


async def _under(
    door: OneDoor, engines: Sequence[Simulator], name: str, policy: Policy, arrivals: Sequence[Arrival]
) -> dict[str, Any]:
    """Return the figures of one replay under one policy, from empty caches."""
    await door.serve(
        name.replace("_", "-"), [one.address for one in engines], routing=Routing(by=policy)
    )
    before = []
    for engine in engines:
        engine.forget()
        before.append(
            (engine.counts.prompt_tokens, engine.counts.cached_tokens, engine.counts.requests)
        )
    heard = await replay(door.port, door.key, name.replace("_", "-"), arrivals)
    prompt = sum(one.counts.prompt_tokens - was[0] for one, was in zip(engines, before, strict=True))
    cached = sum(one.counts.cached_tokens - was[1] for one, was in zip(engines, before, strict=True))
    shares = [one.counts.requests - was[2] for one, was in zip(engines, before, strict=True)]
    return {**_times(heard), "hit_rate": round(cached / prompt, 3), "most_at_one": max(shares)}


def _times(heard: Sequence[Heard]) -> dict[str, Any]:
    simulated = [one.simulated_s for one in heard if one.simulated_s is not None]
    measured = [one.first_s for one in heard if one.first_s is not None]
    return {
        "whole": sum(1 for one in heard if one.whole),
        **_spread("ttft", simulated),
        **_spread("wall_ttft", measured),
    }


def _spread(name: str, seconds: Sequence[float]) -> dict[str, float]:
    cut = statistics.quantiles(seconds, n=100)
    return {
        f"{name}_p50_ms": round(cut[49] * 1e3, 1),
        f"{name}_p99_ms": round(cut[98] * 1e3, 1),
        f"{name}_mean_ms": round(statistics.fmean(seconds) * 1e3, 1),
    }


def _show(figures: dict[str, Any]) -> None:
    print(
        f"{figures['requests']} requests at {figures['rate_per_s']:g}/s in bursts over {figures['replicas']}"
        f" SIMULATED engines: {figures['prefill_us_per_token']:g} µs a prompt token that is not cached,"
        f" {figures['cache_tokens']} tokens of cache, {figures['slots']} slots; seed {figures['seed']}"
    )
    print(
        f"  {'prefixes':9} {'policy':12} {'TTFT p50':>10} {'p99':>10} {'mean':>10}"
        f" {'by the wall p50':>17} {'hits':>6} {'most':>5} {'whole':>6}"
    )
    for workload, policies in figures["workloads"].items():
        for policy, one in policies.items():
            print(
                f"  {workload:9} {policy:12} {one['ttft_p50_ms']:7.1f} ms {one['ttft_p99_ms']:7.1f} ms"
                f" {one['ttft_mean_ms']:7.1f} ms {one['wall_ttft_p50_ms']:14.1f} ms"
                f" {one['hit_rate']:6.1%} {one['most_at_one']:5} {one['whole']:6}"
            )
