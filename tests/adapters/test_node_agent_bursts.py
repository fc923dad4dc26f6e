"""Errors that are one are told once; what follows from them is seen to once all have come."""

import asyncio
import time
from pathlib import Path

import pytest
from node_agent import faults
from node_agent.domain import xid_table
from node_agent.doubles.nvml import Scenario

from tests.adapters.engines import until
from tests.adapters.watching import watching, watching_a_log

pytestmark = pytest.mark.slow


async def test_exceptions_of_one_burst_are_told_once_and_on_one_unit_again_have_the_gpu_tested(
    driver: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "burst_s", lambda xid: 1.5 if xid.code == 13 else 0.0)
    monkeypatch.setitem(xid_table.TABLE, 13, xid_table.TABLE[13]._replace(burst_s=1.5))
    async with watching_a_log(tmp_path) as (here, write):
        here.suspects(monkeypatch)
        for number, units in enumerate([(2,), (2, 3), (2,)]):
            driver.tell(5, 13)
            for unit in units:
                said = f"Graphics SM Warp Exception on (GPC 1, TPC {unit}, SM 0): Illegal Address"
                write(f"NVRM: Xid (PCI:0000:15:00): 13, pid=7, {said}")
            await here.count(number + 1)
            await asyncio.sleep(3.2)
            assert len(here.facts) == number + 1
            assert here.suspected == ([(5, "deep")] if number == 2 else [])
    assert {fact.verdict for fact in here.facts} == {"warn"}


async def test_what_two_projects_suffer_on_one_gpu_has_it_tested(
    driver: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(tmp_path) as here:
        here.suspects(monkeypatch)
        monkeypatch.setattr(faults, "SAME_S", 0.0)
        for number, project in enumerate(["project_a", "project_a", "project_b"]):
            here.health._dues.used([here.devices.listed()[4].device_id], project)
            driver.tell(4, 69)
            await here.count(number + 1)
    assert here.suspected == [(4, "standard")]


async def test_a_gpu_that_wants_to_be_reset_amid_a_burst_is_heard(
    driver: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "SAME_S", 0.0)
    async with watching(tmp_path) as here:
        driver.tell(6, 31)
        await here.count(1)
        driver.tell(6, 31)
        await asyncio.sleep(0.3)
        assert len(here.facts) == 1
        driver.about(6, recovery=1)
        for _ in range(3):
            driver.tell(6, 31)
            await asyncio.sleep(0.1)
        await here.count(2)
        await asyncio.sleep(0.3)
    assert [fact.verdict for fact in here.facts] == ["warn", "fail"]


async def test_a_gpu_that_wanted_to_be_reset_at_once_is_asked_at_the_end_of_the_burst(
    driver: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "burst_s", lambda xid: 2.0 if xid.code == 31 else 0.0)
    monkeypatch.setitem(xid_table.TABLE, 31, xid_table.TABLE[31]._replace(burst_s=2.0))
    async with watching(tmp_path) as here:
        driver.tell(6, 31)
        await here.count(1)
        driver.tell(6, 31)
        await until(lambda: 6 in here.faults._asked)
        await asyncio.sleep(0.2)
        driver.about(6, recovery=1)
        for _ in range(3):
            driver.tell(6, 31)
        await here.count(2)
        await asyncio.sleep(2.5)
    assert [fact.verdict for fact in here.facts] == ["warn", "fail"]


async def test_an_nvlink_error_is_told_at_once_and_by_its_registers_where_the_kernel_was_first(
    driver: Scenario, tmp_path: Path
) -> None:
    async with watching_a_log(tmp_path) as (here, write):
        driver.tell(2, 74)
        await until(lambda: here.facts, 1.0)
        said = "NVLink: fatal error detected on link 3(0x1, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)"
        write(f"NVRM: Xid (PCI:0000:13:00): 74, pid=7, {said}")
        await until(lambda: here.faults._history.errors(time.monotonic())[-1].device == 3)
        driver.tell(3, 74)
        await asyncio.sleep(0.3)
    assert [fact.verdict for fact in here.facts] == ["fail"], "GPU 3 has nothing that matters"
    assert here.facts[0].checks[0].device_id == here.devices.listed()[2].device_id
