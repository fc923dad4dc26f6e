"""Counters and sensors as gpuprobe reads them: the real binding, on a double of the driver in C."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gpuprobe.counters import Watch
from gpuprobe.moved import judge
from gpuprobe.nvml import NoSensors, Nvml
from node_agent.doubles.build import build
from node_agent.doubles.nvml import Scenario

pytestmark = pytest.mark.slow

LINKS = 18
STORM_PER_S = 2_000


def card(gpu: int) -> Nvml:
    return Nvml.open(f"GPU-{gpu:08}-0000-4000-8000-000000000000")


def test_what_a_card_counts_is_read_by_place_and_lane(driver: Scenario) -> None:
    driver.about(1, ecc_corrected=4, ecc_corrected_dram=3, ecc_uncorrected=1, ecc_uncorrected_sram=1)
    driver.about(1, rows_corrected=2, rows_pending=1, pcie_replay=7, links=LINKS, held_thermal_us=5_000)
    driver.write({"gpu1.nvlink17.crc_flit": 9, "gpu1.nvlink3.recovery": 1})
    said = card(1).counters()
    assert {name: value for name, value in said.items() if value} == {
        "ecc_corrected": 4,
        "ecc_corrected_dram": 3,
        "ecc_uncorrected": 1,
        "ecc_uncorrected_sram": 1,
        "rows_corrected": 2,
        "rows_pending": 1,
        "pcie_replay": 7,
        "nvlink17_crc_flit": 9,
        "nvlink3_recovery": 1,
        "held_thermal_us": 5_000,
    }
    assert sum(name.startswith("nvlink") for name in said) == 4 * LINKS
    assert not any(name.startswith("nvlink") for name in card(2).counters())


def test_a_lane_that_fails_beside_a_check_fails_it_and_is_named(driver: Scenario) -> None:
    driver.about(3, links=LINKS)
    watch = Watch(card(3))
    driver.write({"gpu3.nvlink5.recovery": 2})
    found = judge(watch.moved(), 14)
    assert (found.verdict, "nvlink5_recovery" in found.detail) == ("fail", True)


def test_a_storm_of_corrected_errors_is_seen_while_it_blows(driver: Scenario) -> None:
    driver.about(4, storm=STORM_PER_S)
    watch = Watch(card(4))
    time.sleep(0.05)
    moved = watch.moved()
    assert moved.by["ecc_corrected"] >= STORM_PER_S * 0.05
    found = judge(moved, 14)
    assert (found.verdict, "ecc_corrected" in found.detail) == ("warn", True)


def test_what_the_sensors_say_and_why_the_clock_is_held_down(driver: Scenario) -> None:
    driver.about(0, power=654_321, temperature=61, reasons=0x40)
    sample = card(0).sample()
    assert (sample.power_w, sample.temperature_c, sample.reasons) == (654.321, 61, 0x40)
    assert (card(0).driver(), card(0).link()) == ("0.0 (double)", {})


def test_a_lost_card_says_nothing_and_an_unknown_one_is_named(driver: Scenario) -> None:
    driver.about(6, lost=1)
    assert card(6).counters() == {}
    with pytest.raises(NoSensors, match="GPU-00000063"):
        card(63)


def test_a_driver_that_is_older_than_a_function_is_read_without_it(tmp_path: Path) -> None:
    lacks = ("nvmlDeviceGetRemappedRows", "nvmlDeviceGetNvLinkErrorCounter")
    library = build(tmp_path, older=lacks)
    scenario = Scenario(tmp_path / "scenario")
    scenario.about(0, links=LINKS, pcie_replay=3)
    code = (
        "import ctypes, json; ctypes.CDLL(%r); from gpuprobe.nvml import Nvml;"
        "print(json.dumps(Nvml.open('GPU-00000000-0000-4000-8000-000000000000').counters()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code % str(library)],
        env={**os.environ, "NVML_DOUBLE": str(scenario.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout)
    assert said["pcie_replay"] == 3
    assert not any(name.startswith(("rows", "nvlink")) for name in said)
