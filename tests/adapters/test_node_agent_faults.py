"""Errors of GPUs through the real binding and a double of the driver: heard, told once, and acted on."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from mesh_contracts.node import Check, HealthChanged
from node_agent.domain.energy import Busy
from node_agent.doubles.nvml import Scenario
from node_agent.probing import Probing

from tests.adapters.engines import until
from tests.adapters.watching import watching, watching_a_log

pytestmark = pytest.mark.slow

SECOND = Busy(elapsed_us=1_000_000, total_us=0, devices_us={})


async def test_a_hardware_fault_is_told_as_failed_of_the_gpu_that_has_it(
    driver: Scenario, tmp_path: Path
) -> None:
    async with watching(tmp_path) as here:
        assert [device.index for device in here.devices.listed()] == list(range(8))
        driver.tell(3, 79)
        await here.count(1)
        [fact] = here.facts
        [check] = fact.checks
        assert isinstance(fact, HealthChanged)
        assert (fact.verdict, check.name, check.evidence) == ("fail", "xid", {"xid": 79})
        assert check.device_id == here.devices.listed()[3].device_id
        assert "fallen off the bus" in check.detail
        assert check.action is not None
        assert not check.rehearsal


async def test_a_programs_fault_is_told_and_takes_nothing_out(driver: Scenario, tmp_path: Path) -> None:
    async with watching(tmp_path) as here:
        driver.tell(0, 31)
        driver.tell(0, 43)
        driver.tell(1, 79)
        await here.count(2)
        assert [fact.verdict for fact in here.facts] == ["warn", "fail"]


async def test_what_the_gpu_says_of_itself_counts_more_than_the_table(
    driver: Scenario, tmp_path: Path
) -> None:
    driver.about(2, recovery=2)
    async with watching(tmp_path) as here:
        driver.tell(2, 154)
        await here.count(1)
        assert here.facts[0].verdict == "fail"
        assert "power-cycle" in here.facts[0].checks[0].action


async def test_the_driver_and_the_kernels_log_tell_of_one_error_once(
    driver: Scenario, tmp_path: Path
) -> None:
    async with watching_a_log(tmp_path) as (here, write):
        write("NVRM: Xid (PCI:0000:13:00): 79, pid=1, GPU has fallen off")
        driver.tell(3, 79)
        driver.tell(4, 149)
        write("NVRM: Xid (PCI:0000:14:00): 149, NETIR Fatal XC0 Link 08")
        driver.tell(5, 149)
        write("NVRM: Xid (PCI:0000:15:00): 149, NETIR Nonfatal XC0 Link 9")
        write("nvidia-nvswitch0: SXid (PCI:0000:c3:00.0): 22013, Fatal, Link 4")
        await here.count(3)
        await asyncio.sleep(0.2)
        found = [(fact.checks[0].name, fact.checks[0].evidence["xid"]) for fact in here.facts]
        assert sorted(found) == [("sxid", 22013), ("xid", 79), ("xid", 149)]


async def test_a_storm_of_one_error_is_one_fact(driver: Scenario, tmp_path: Path) -> None:
    async with watching(tmp_path) as here:
        for _ in range(50):
            driver.tell(3, 95)
        driver.tell(4, 95)
        await here.count(2)
        assert [fact.checks[0].device_id[4:12] for fact in here.facts] == ["00000003", "00000004"]


async def test_a_driver_that_hangs_is_told_of_and_the_agent_goes_on(
    driver: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node_agent.faults.STUCK_AFTER_S", 1.0)
    async with watching(tmp_path) as here:
        driver.about(1, hang=60)
        for _ in range(30):
            here.devices.draw(SECOND)
            await asyncio.sleep(0.1)
            if here.facts:
                break
        await here.count(1)
        fact = here.facts[0]
        assert (fact.verdict, {check.name for check in fact.checks}) == ("inconclusive", {"driver"})
        assert len(fact.checks) == 8
        driver.tell(0, 48)
        await here.count(2)
        assert here.facts[1].verdict == "fail"
        driver.about(1, hang=0)
        await until(lambda: here.devices.stuck_s == 0)
        driver.about(1, energy=2_000)
        await until(lambda: (drawn := here.devices.draw(SECOND)) and drawn.energy_uj)


async def test_a_gpu_in_mig_mode_is_told_as_such(driver: Scenario, tmp_path: Path) -> None:
    driver.about(1, mig=1)
    driver.about(2, mig=0)
    async with watching(tmp_path) as here:
        assert [device.mig for device in here.devices.listed()] == [False, True] + 6 * [False]


async def test_a_lost_gpu_is_counted_no_more_and_the_others_are(
    driver: Scenario, tmp_path: Path
) -> None:
    async with watching(tmp_path) as here:
        driver.about(1, lost=1)
        driver.about(2, energy=3_000)
        drawn = here.devices.draw(SECOND)
        assert drawn is not None
        assert drawn.energy_uj == 2_000_000


async def test_a_gpu_that_the_driver_has_lost_is_told_as_failed_once(
    driver: Scenario, tmp_path: Path
) -> None:
    """Of one that fell off the bus an old driver tells no XID, and the kernel's log may not be read."""
    async with watching(tmp_path) as here:
        driver.about(5, lost=1)
        here.devices.draw(SECOND)
        await here.count(1)
        here.devices.draw(SECOND)
        await asyncio.sleep(1.2)
        [fact] = here.facts
        [check] = fact.checks
        assert (fact.verdict, check.device_id) == ("fail", here.devices.listed()[5].device_id)
        assert "power-cycle" in check.action


async def test_an_nvlink_error_of_which_the_kernel_says_nothing_is_taken_as_fatal(
    driver: Scenario, tmp_path: Path
) -> None:
    log = tmp_path / "kmsg"
    os.mkfifo(log)
    writer = os.open(log, os.O_RDWR)
    try:
        async with watching(tmp_path, log) as here:
            driver.tell(2, 149)
            driver.tell(4, 149)
            await asyncio.sleep(0.3)
            bus = here.devices.buses()[4].removesuffix(".0")
            mild = f"3,1,1,-;NVRM: Xid (PCI:{bus}): 149, NETIR_LINK_EVT Nonfatal XC0 i0 Link 08"
            os.write(writer, mild.encode() + b"\n")
            await here.count(1)
            await asyncio.sleep(0.5)
            [fact] = here.facts
            assert fact.verdict == "fail"
            assert fact.checks[0].device_id == here.devices.listed()[2].device_id
    finally:
        os.close(writer)


async def test_after_a_hardware_fault_the_check_that_opens_the_node_passes_twice(
    driver: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(tmp_path) as here:
        driver.tell(3, 79)
        await here.count(1)
        levels: list[str] = []
        verdicts = iter(["pass", "fail", "pass", "pass", "pass"])

        async def check(devices: Any, level: str, only: Any = (), **_more: Any) -> list[Check]:
            if only or devices[0].index:
                return []
            levels.append(level)
            device = devices[0]
            return [
                Check(
                    name="mem_hash", device_id=device.device_id, verdict=next(verdicts),  # type: ignore[arg-type]
                    backend="cupy", rehearsal=False, took_ms=1, detail="as scripted",
                )
            ]  # fmt: skip

        monkeypatch.setattr(Probing, "check", lambda _, *told, **more: check(*told, **more))
        here.health.wish(1)
        first: asyncio.Task[list[Check]] = asyncio.create_task(nothing())
        running = asyncio.create_task(here.health.run(first, here.told.teller(), lambda: ()))
        await here.count(3)
        assert (here.facts[-1].verdict, levels) == ("fail", ["standard", "standard"])
        here.health.wish(2)
        await here.count(4)
        assert (here.facts[-1].verdict, levels[2:]) == ("pass", ["standard", "standard"])
        here.health.wish(3)
        await here.count(5)
        assert levels[4:] == ["quick"]
        running.cancel()


async def nothing() -> list[Check]:
    return []
