"""When devices are checked: at the enrolment, between tenants, when idle; and never beside somebody's work."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mesh_contracts.node import Check, Device, HealthChanged
from mesh_contracts.placement import Resources
from meshkit.testing import test_id
from node_agent import probing
from node_agent.devices.rehearsal import SCENARIO, Rehearsal
from node_agent.health import HANGS, Health
from node_agent.probing import Probing

from tests.adapters.engines import Told, host, member, spec, until

pytestmark = pytest.mark.slow

IDS = ["rehearsal-n1-0", "rehearsal-n1-1"]


class Checking:
    """The checks of a node of two devices; ``used`` is what somebody works on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told = Told()
        self.used: set[str] = set()
        self.health = Health(Rehearsal("n1", 2, folder), folder)
        self._tasks: list[asyncio.Task[Any]] = []

    def begin(self, **fields: Any) -> None:
        self.health = Health(Rehearsal("n1", 2, self.folder), self.folder, **fields)
        first = asyncio.create_task(self.health.first(lambda: self.used))
        running = self.health.run(first, self.told.teller(), lambda: self.used)
        self._tasks = [first, asyncio.create_task(running)]

    async def facts(self, count: int) -> list[HealthChanged]:
        await until(lambda: len(self.told.facts) >= count, 30)
        return [fact for fact in self.told.facts if isinstance(fact, HealthChanged)]

    async def starts(self, device: str, project: str, **fields: Any) -> str | None:
        about = {"whole": True, "gang": False, **fields}
        self.used.add(device)
        return await self.health.make_way([device], self.told.teller(), project=project, **about)

    def breaks(self, device: int) -> None:
        fault = {"gemm": {"device": device, "row": 17, "col": 3, "bit": 5}}
        (self.folder / SCENARIO).write_text(json.dumps(fault))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Checking]:
    made = Checking(tmp_path)
    yield made
    await made.stop()


def devices(fact: HealthChanged) -> set[str]:
    return {check.device_id for check in fact.checks if check.verdict != "warn"}


async def test_the_level_of_an_enrolment_is_owed_until_its_verdict_was_told(here: Checking) -> None:
    here.begin(enrolment="standard")
    await here.stop()
    here.begin(enrolment="standard")
    assert (await here.facts(1))[0].level == "standard"
    await here.stop()
    here.begin(enrolment="standard")
    assert (await here.facts(2))[1].level == "quick"


async def test_after_a_restart_what_runs_is_left_alone_and_checked_once_it_ended(
    here: Checking,
) -> None:
    here.used = {IDS[0]}
    here.begin()
    (first,) = await here.facts(1)
    assert (first.verdict, devices(first)) == ("warn", {IDS[1]})
    (unseen,) = [check for check in first.checks if check.verdict == "warn"]
    assert unseen.detail == "rehearsal: not checked: somebody's work is there"
    here.used = set()
    _, then = await here.facts(2)
    assert (then.verdict, devices(then)) == ("pass", {IDS[0]})


async def test_a_check_that_is_wished_for_is_told_once_every_device_had_its_turn(
    here: Checking,
) -> None:
    here.begin()
    await here.facts(1)
    here.used = {IDS[1]}
    here.health.wish(3)
    _, part = await here.facts(2)
    assert (part.check, part.verdict, devices(part)) == (0, "warn", {IDS[0]}), "not its number yet"
    here.used = set()
    *_, whole = await here.facts(3)
    assert (whole.check, whole.verdict, devices(whole)) == (3, "pass", set(IDS))


async def test_what_a_tenant_used_is_checked_before_the_next_has_it(here: Checking) -> None:
    here.begin()
    await here.facts(1)
    assert await here.starts(IDS[0], "p1") is None
    assert await here.starts(IDS[0], "p1") is None
    assert len(here.told.facts) == 1, "nobody else was there"
    here.breaks(0)
    refused = await here.starts(IDS[0], "p2")
    assert refused is not None
    assert "rehearsal-n1-0 did not pass the check between two uses: gemm" in refused
    _, failed = await here.facts(2)
    assert (failed.verdict, devices(failed)) == ("fail", {IDS[0]})


async def test_what_failed_is_cleared_by_that_level_passing_twice_also_after_a_restart(
    here: Checking, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels: list[str] = []
    sound = Probing.check

    async def counted(
        probing: Probing, devices: Any, level: Any, only: Any = (), **_more: Any
    ) -> list[Check]:
        if devices[0].index == 0:
            levels.append(level)
        return await sound(probing, devices, "quick", only=only)

    monkeypatch.setattr(Probing, "check", counted)
    here.breaks(0)
    here.begin(enrolment="standard")
    assert [fact.verdict for fact in await here.facts(1)] == ["fail"]
    (here.folder / SCENARIO).unlink()
    await here.stop()
    here.begin()
    _, again, made_up = await here.facts(3)
    assert [(one.level, one.verdict) for one in (again, made_up)] == [
        ("quick", "pass"),
        ("standard", "pass"),
    ], "the start's own check is quick, and then what the fault has owed"
    here.health.wish(1)
    *_, returned = await here.facts(4)
    assert (returned.check, returned.level, returned.verdict) == (1, "standard", "pass")
    assert levels == ["standard", "quick", "standard", "standard", "standard"]
    here.health.wish(2)
    await here.facts(5)
    assert levels[5:] == ["quick"]


async def test_a_fault_that_is_seen_while_another_is_cleared_stays(
    here: Checking, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.begin()
    await here.facts(1)
    levels: list[str] = []

    async def check(_: Probing, devices: Any, level: str, only: Any = (), **_more: Any) -> list[Check]:
        if devices[0].index == 0 and not only:
            levels.append(level)
            if len(levels) == 2:
                here.health.must_pass_twice("standard")
        return []

    monkeypatch.setattr(Probing, "check", check)
    here.health.must_pass_twice("standard")
    here.health.wish(1)
    await here.facts(2)
    here.health.wish(2)
    await here.facts(3)
    assert levels == ["standard"] * 4


async def test_an_idle_device_is_checked_now_and_then(here: Checking) -> None:
    here.used = {IDS[1]}
    here.begin(every_s=0.5)
    assert [devices(fact) for fact in await here.facts(3)] == [{IDS[0]}] * 3


async def test_a_check_gives_way_to_work_and_is_made_up_for(
    here: Checking, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.begin()
    await here.facts(1)
    arguments = Probing._arguments
    # A level that would take long: whoever is to work there does not wait for it.
    monkeypatch.setattr(Probing, "_arguments", lambda *_: ["--level", "deep", "--backend", "numpy"])
    here.health.wish(1)
    probing = here.health._probing
    await until(lambda: probing._running)
    assert await here.starts(IDS[0], "p1") is None
    assert not any(IDS[0] in ids for ids in probing._running.values())
    assert len(here.told.facts) == 1, "an ended check has no verdict"
    monkeypatch.setattr(Probing, "_arguments", arguments)
    here.used = set()
    assert [fact.check for fact in await here.facts(2)][-1] == 1


async def test_work_does_not_begin_beside_a_check_that_could_not_be_ended(
    here: Checking, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.begin()
    await here.facts(1)
    monkeypatch.setattr(Probing, "_arguments", lambda *_: ["--level", "deep", "--backend", "numpy"])

    async def unkillable(child: asyncio.subprocess.Process, *, at_once: bool) -> None:
        del child, at_once

    monkeypatch.setattr(probing, "_end", unkillable)
    checking = asyncio.create_task(here.health.check("deep"))
    await asyncio.sleep(0.3)
    refused = await here.starts(IDS[0], "p1")
    assert refused == f"{IDS[0]}: {HANGS}"
    assert await checking == []
    *_, told = await here.facts(2)
    assert told.verdict == "inconclusive"
    for child, _ in here.health._probing._left:
        child.kill()
        await child.wait()
        child._transport.close()  # type: ignore[attr-defined]
    monkeypatch.undo()
    assert await here.starts(IDS[0], "p1") is None


async def test_a_real_gpu_in_mig_mode_is_not_judged_and_says_why(
    tmp_path: Path,
) -> None:
    cut = Device(device_id="GPU-0", index=0, model="H200", memory_mib=1, rehearsal=False, mig=True)
    devices: Any = SimpleNamespace(rehearsal=False)
    [check] = await Probing(devices, tmp_path).check([cut], "standard")
    assert (check.verdict, check.rehearsal) == ("inconclusive", False)
    assert "MIG mode" in check.detail


async def test_work_that_may_not_begin_has_failed_through_no_fault_of_its_own(tmp_path: Path) -> None:
    async def refuse(_: Any) -> str:
        return "GPU-a did not pass"

    async with host(tmp_path / "workloads", tmp_path / "models") as made:
        made.make_way = refuse
        train = member("true", workload_id=test_id("workload", "train"))
        engine = spec(workload_id=test_id("workload", "engine"), resources=Resources(gpus=1))
        made.agent().wish([train, engine])
        await until(lambda: len(made.told.facts) == 2)
        by: dict[str, Any] = {fact.workload_id: fact for fact in made.told.facts}  # type: ignore[attr-defined]
        assert made.told.verbs() == ["failed", "failed"]
        job = by[train.workload_id]
        assert (job.interrupted, job.reason) == (True, "GPU-a did not pass")
        assert by[engine.workload_id].reason == "GPU-a did not pass"


async def test_a_device_is_in_use_from_before_its_work_begins_until_it_ended(tmp_path: Path) -> None:
    seen: list[set[str]] = []

    async def look(_: Any) -> None:
        seen.append(agent.in_use())

    async with host(tmp_path / "workloads", tmp_path / "models") as made:
        made.make_way = look
        agent = made.agent()
        agent.wish([member("true", devices=[IDS[1]])])
        await made.told.said("stopped")
        assert seen == [{IDS[1]}]
        await until(lambda: not agent.in_use())


async def test_what_was_told_of_a_server_amid_a_lease_is_told_anew_after_it(here: Checking) -> None:
    here.used = set(IDS)
    here.begin()
    [first] = await here.facts(1)
    assert first.verdict == "warn"
    await here.health.check("quick")
    here.used = set()
    assert (await here.facts(2))[1].verdict == "pass"
