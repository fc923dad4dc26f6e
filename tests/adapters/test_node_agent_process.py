"""The agent as a process on a closed bus: it joins, is checked, runs what is wished, and survives."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from mesh_contracts import wire
from mesh_contracts.ask import Problem
from mesh_contracts.node import (
    EnergyMeasured,
    HealthChanged,
    Heartbeat,
    NodeJoined,
    Power,
    WorkloadFailed,
    WorkloadReady,
    WorkloadStarted,
    WorkloadStopped,
)
from meshkit.testing import test_id

from tests.adapters.agents import NODE, Site, site
from tests.adapters.engines import KEY, spec, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
async def here(tmp_path: Path, models: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, models) as made:
        yield made


async def test_a_node_joins_with_a_token_is_checked_and_beats(here: Site) -> None:
    await here.start()
    joined = await here.told(NodeJoined)
    assert (joined.key, joined.node_id, joined.name) == (NODE, NODE, "n1")
    assert [device.rehearsal for device in joined.devices] == [True, True]

    health = await here.told(HealthChanged)
    assert (health.verdict, health.check, health.level) == ("pass", 0, "standard")
    assert {check.device_id for check in health.checks} == {"rehearsal-n1-0", "rehearsal-n1-1"}
    assert {"gemm", "memory_hash", "bandwidth"} <= {check.name for check in health.checks}
    assert all(check.rehearsal and check.backend == "numpy" for check in health.checks)
    assert all(check.detail.startswith("rehearsal: ") for check in health.checks)

    await until(lambda: {m.subject.split(".")[2] for m in here.beats} == {"heartbeat", "power"})
    beat = next(m for m in here.beats if ".heartbeat." in m.subject)
    assert wire.decode(beat.data, Heartbeat).node_id == NODE
    power = next(m for m in here.beats if ".power." in m.subject)
    assert wire.decode(power.data, Power).quality == "estimated"

    said = await here.end()
    assert here.process is not None
    assert here.process.returncode == 0, said
    assert here.bus.join_token not in said
    assert [fact.version for fact in here.facts] == sorted(fact.version for fact in here.facts)
    assert (here.data / "bus.nk").stat().st_mode & 0o077 == 0


async def test_a_wished_engine_serves_draws_energy_and_stops(here: Site) -> None:
    await here.start()
    wished = spec()
    await here.wish(wished)
    ready = await here.told(WorkloadReady)
    assert len(here.of(WorkloadStarted)) == 1
    async with openai.AsyncOpenAI(base_url=f"http://{ready.address}/v1", api_key=KEY) as caller:
        for _ in range(20):
            await caller.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": "hello"}], max_tokens=500
            )
    await here.told(EnergyMeasured, len(here.of(EnergyMeasured)) + 2)
    counters = here.of(EnergyMeasured)
    assert {fact.epoch for fact in counters} == {1}
    assert [int(f.counter_uj) for f in counters] == sorted(int(f.counter_uj) for f in counters)
    assert int(counters[-1].counter_uj) > int(counters[-1].idle_counter_uj) > 0
    assert counters[-1].quality == "estimated"
    assert "rehearsal" in counters[-1].source

    await here.wish()
    await here.told(WorkloadStopped)
    await until(lambda: not here.found(wished).alive)


async def test_a_killed_agent_leaves_its_engine_serving_and_adopts_it(here: Site) -> None:
    await here.start()
    wished = spec()
    await here.wish(wished)
    ready = await here.told(WorkloadReady)
    before = here.found(wished)
    counted = int((await here.told(EnergyMeasured)).counter_uj)

    await here.end(signal.SIGKILL)
    async with openai.AsyncOpenAI(base_url=f"http://{ready.address}/v1", api_key=KEY) as caller:
        answer = await caller.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "still there?"}], max_tokens=4
        )
        assert answer.choices[0].message.content
    here.beats.clear()
    await here.start()

    await here.told(NodeJoined, 2)

    def alive_again() -> bool:
        beats = [wire.decode(m.data, Heartbeat) for m in here.beats if ".heartbeat." in m.subject]
        return any(
            w.state == "ready" and w.address == ready.address for b in beats for w in b.workloads
        )

    await until(alive_again)
    assert here.found(wished) == before
    assert len(here.of(WorkloadStarted)) == len(here.of(WorkloadReady)) == 1
    assert here.of(WorkloadFailed) == []
    assert len(here.enrolments) == 1
    later = await here.told(EnergyMeasured, len(here.of(EnergyMeasured)) + 1)
    assert (later.epoch, int(later.counter_uj) > counted) == (1, True)


async def test_a_bit_flipped_in_a_rehearsal_is_named_when_a_check_is_wished(here: Site) -> None:
    await here.start()
    await here.told(HealthChanged)
    fault = {"gemm": {"device": 0, "row": 17, "col": 3, "bit": 5}}
    (here.data / "rehearsal.json").write_text(json.dumps(fault))
    await here.wish(check=1)
    found = await here.told(HealthChanged, 2)
    assert (found.verdict, found.check) == ("fail", 1)
    assert all(check.rehearsal for check in found.checks)
    (failed,) = [check for check in found.checks if check.verdict != "pass"]
    assert (failed.name, failed.verdict, failed.device_id) == ("gemm", "fail", "rehearsal-n1-0")
    assert (failed.evidence["row"], failed.evidence["bits"]) == (17, [5])
    assert failed.action

    (here.data / "rehearsal.json").write_text("{not json")
    await here.wish(check=2)
    unusable = await here.told(HealthChanged, 3)
    assert (unusable.verdict, unusable.check) == ("inconclusive", 2)
    assert "correct it or delete it" in unusable.checks[0].detail

    await here.end(signal.SIGKILL)
    (here.data / "rehearsal.json").unlink()
    await here.start()
    again = await here.told(HealthChanged, 4)
    assert (again.verdict, again.check) == ("pass", 2)


async def test_a_stopped_agent_tells_its_last_counters(
    here: Site,
) -> None:
    await here.start(AGENT_ENERGY_INTERVAL_S="3600")
    await here.told(EnergyMeasured)
    await here.end()
    await here.told(EnergyMeasured, 2)
    first, last = here.of(EnergyMeasured)
    assert int(last.counter_uj) > int(first.counter_uj)


async def test_facts_told_while_the_bus_is_away_arrive_afterwards(here: Site) -> None:
    await here.start()
    wished = spec()
    await here.wish(wished)
    await here.told(WorkloadReady)
    engine = here.found(wished).engine_pid
    assert engine is not None

    here.bus.server.stop_signal()
    os.kill(engine, signal.SIGKILL)
    noted = here.data / "workloads" / wished.workload_id / "told.failed.1"
    await until(noted.exists)
    assert here.of(WorkloadFailed) == []
    here.bus.server.cont_signal()

    assert (await here.told(WorkloadFailed, within_s=30)).exit_code == -signal.SIGKILL


async def test_the_lifelines_end_ends_the_agent_and_its_engines(here: Site) -> None:
    await here.start()
    wished = spec()
    await here.wish(wished)
    await here.told(WorkloadReady)
    engine = here.found(wished).engine_pid

    here.cut_lifeline()

    assert here.process is not None
    assert await asyncio.wait_for(here.process.wait(), 10) == 0
    await until(lambda: not Path(f"/proc/{engine}").exists())
    assert here.of(WorkloadFailed) == []


async def test_a_refused_node_says_so_and_tries_again(here: Site) -> None:
    here.refusal = Problem(title="No", status=403, code="token_used_up", detail="ask for another token")
    await here.start()
    await until(lambda: here.enrolments)
    await until(lambda: len(here.enrolments) >= 2, 20)
    here.refusal = None
    await here.told(NodeJoined, within_s=20)
    said = await here.end()
    assert "ask for another token" in said
    assert here.bus.join_token not in said


async def test_a_join_token_that_opens_nothing_is_named_as_what_may_be_wrong(
    here: Site, tmp_path: Path
) -> None:
    over = tmp_path / "over.token"
    over.write_text("a token that is over")
    await here.start(AGENT_JOIN_TOKEN_FILE=str(over))
    assert here.process is not None
    assert here.process.stderr is not None
    said = await asyncio.wait_for(here.process.stderr.readuntil(b"tried again"), 10)
    assert b"used up or expired; AGENT_JOIN_TOKEN_FILE names a file" in said
    assert b"NATS_CREDENTIALS" not in said


async def test_a_node_stays_connected_past_the_life_of_its_credentials(here: Site) -> None:
    here.life_s = 3.0
    here.bus.life_s = 3
    await here.start()
    await here.told(NodeJoined)
    await here.told(EnergyMeasured, 8, within_s=25)
    assert here.process is not None
    assert here.process.returncode is None
    assert len(here.enrolments) == 1


async def test_a_node_whose_mesh_forgot_it_goes_on_under_its_new_name(here: Site) -> None:
    await here.start()
    await here.wish(spec())
    await here.told(WorkloadReady)
    await here.end(signal.SIGKILL)

    here.bus.nodes.clear()
    here.node_id = test_id("node", "after a new beginning")
    here.beats.clear()
    await here.start()
    await until(lambda: any(fact.node_id == here.node_id for fact in here.of(NodeJoined)), 20)
    await until(lambda: any(fact.node_id == here.node_id for fact in here.of(HealthChanged)))
    await until(lambda: any(m.subject.endswith(here.node_id) for m in here.beats))
    said = await here.end()
    assert "refused a publish" not in said


async def test_a_second_agent_on_the_same_folder_is_refused(here: Site) -> None:
    await here.start()
    await here.told(NodeJoined)
    first = here.process
    await here.start()
    assert here.process is not None
    _, said = await asyncio.wait_for(here.process.communicate(), 10)
    assert here.process.returncode == 1
    assert "another process holds this journal; stop it first" in said.decode().splitlines()[-1]
    here.process = first


async def test_an_agent_without_devices_or_a_token_ends_with_what_to_do(here: Site) -> None:
    await here.start(AGENT_DEVICES="nvml")
    assert here.process is not None
    _, said = await asyncio.wait_for(here.process.communicate(), 10)
    assert here.process.returncode == 1
    assert "AGENT_DEVICES=rehearsal" in said.decode().splitlines()[-1]

    await here.start(AGENT_JOIN_TOKEN_FILE="")
    _, said = await asyncio.wait_for(here.process.communicate(), 10)
    assert here.process.returncode == 1
    assert "AGENT_JOIN_TOKEN_FILE" in said.decode().splitlines()[-1]
