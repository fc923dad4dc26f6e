"""Arrivals in bursts over eight simulated engines, two killed and two frozen on the way."""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from mesh_contracts.placement import Replica
from mesh_tools.bench.arrivals import Arrival, shared
from mesh_tools.bench.caller import Heard, replay
from mesh_tools.bench.costs import Costs
from mesh_tools.bench.simulator import Simulator, simulators
from meshkit.testing import test_id

from tests.adapters.bounds import shorten
from tests.adapters.gateways import Town, town
from tests.servers_nats import NatsServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REPLICAS = 8
SEED = 17
COSTS = Costs(prefill_us=10.0, decode_us=1_000.0)
IN_TIME_S = 60.0


@pytest.fixture
async def here(
    tmp_path: Path, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Town]:
    async with town(tmp_path, nats_server.url) as made:
        shorten(monkeypatch, FIRST_BYTE_WAIT_S=1.5, IDLE_GAP_S=1.5)
        yield made


def replica(number: int, engine: Simulator) -> Replica:
    return Replica(
        workload_id=test_id("workload", f"simulated-{number}"), address=engine.address, api_key="k"
    )


async def played(here: Town, arrivals: Sequence[Arrival]) -> tuple[list[Heard], set[str]]:
    """Replay, lose four engines a third of the way; return what was heard, and which were lost."""
    async with simulators(REPLICAS, COSTS) as engines:
        replicas = [replica(number, engine) for number, engine in enumerate(engines)]
        await here.serve(*replicas, engine="vllm", model_id="chat")

        async def lose_four() -> None:
            await asyncio.sleep(arrivals[len(arrivals) // 3].at_s)
            for engine in engines[:2]:
                engine.kill()
            for engine in engines[2:4]:
                engine.freeze()

        losing = asyncio.ensure_future(lose_four())
        heard = await replay(here.door.port, here.key, "chat", arrivals, IN_TIME_S)
        await losing
        after = sum(engine.counts.finished for engine in engines[4:])
        assert after > 0
    return heard, {replica.workload_id for replica in replicas[:4]}


async def judged(here: Town, arrivals: Sequence[Arrival]) -> None:
    """Fail for each request that failed and could have been served, and unless each has its one row."""
    heard, lost = await played(here, arrivals)
    rows = {row.request_id: row for row in await here.rows(len(arrivals), within_s=60)}
    failed = [one for one in heard if not one.whole]
    sys.stdout.write(
        f"\n{len(arrivals)} requests, {len(failed)} failed: {dict(Counter(one.error for one in failed))};"
        f" attempts {dict(Counter(row.attempts for row in rows.values()))}\n"
    )
    # Only what had begun to be answered by an engine that was lost could not be served.
    could = [one for one in failed if not (one.words and rows[one.request_id].workload_id in lost)]
    assert could == []
    for one, arrival in zip(heard, arrivals, strict=True):
        row = rows[one.request_id]
        if one.whole:
            assert (row.state, row.completion_tokens) == ("completed", arrival.answer_tokens)
            assert one.words == arrival.answer_tokens
        else:
            assert (row.state, row.completion_tokens) != ("completed", arrival.answer_tokens)
            assert one.words <= (row.completion_tokens or 0) <= arrival.answer_tokens


async def test_no_request_fails_that_could_have_been_served_while_half_of_the_engines_are_lost(
    here: Town,
) -> None:
    await judged(here, shared(random.Random(SEED), 120, 60.0))


@pytest.mark.long
async def test_a_long_replay_loses_no_request_that_could_have_been_served(here: Town) -> None:
    await judged(here, shared(random.Random(SEED), 5_000, 60.0))
