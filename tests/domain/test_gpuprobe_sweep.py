"""The sweep over multiprocessors: every one is reached, and the one that errs is named with its lanes."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from gpuprobe import chains, operands
from gpuprobe.backend import Backend
from gpuprobe.chains import LANES, UNITS
from gpuprobe.fault import Fault
from gpuprobe.on_numpy import NumpyBackend
from gpuprobe.probe import Setting, check
from gpuprobe.sweep_check import PROBE, SCHEDULERS, Size
from gpuprobe.verdict import Check

from tests.domain.probing import BACKENDS, opened

pytestmark = pytest.mark.slow

SIZE = Size(rounds=12, launches=3)


def swept(backend: Backend, *faults: Fault, size: Size = SIZE) -> Check:
    return check(PROBE, Setting(backend=backend, seed=5, faults=faults), size)


@pytest.mark.parametrize("name", BACKENDS)
def test_every_multiprocessor_of_a_sound_device_comes_to_what_numpy_came_to(name: str) -> None:
    backend = opened(name)
    said = swept(backend)
    assert said.verdict == "pass", said
    seen = said.evidence["multiprocessors"]
    assert isinstance(seen, int)
    assert seen >= backend.traits.multiprocessors
    assert said.evidence["schedulers"] == seen * SCHEDULERS


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("unit", range(len(UNITS)))
@pytest.mark.parametrize("persistent", [False, True])
def test_a_multiprocessor_that_errs_is_named_with_scheduler_unit_lanes_and_bits(
    name: str, unit: int, *, persistent: bool
) -> None:
    place: dict[str, Any] = {"sm": 2, "line": unit, "level": unit, "word": 0x80000101, "mask": 0x12}
    fault = Fault(probe="sm_sweep", kind="perturb", persistent=persistent, **place)
    said = swept(opened(name), fault)
    assert said.verdict == "fail"
    assert said.evidence["sms"] == [2]
    assert said.evidence["schedulers_wrong"] == [unit]
    assert said.evidence["units"] == UNITS[unit]
    assert (said.evidence["lanes"], said.evidence["xor"]) == ("0x80000101", "0x12")
    assert said.evidence["launches_wrong"] == (SIZE.launches if persistent else 1)
    assert said.action is not None


def test_a_unit_that_cannot_compare_is_found_by_its_sum() -> None:
    class Blind(NumpyBackend):
        """One multiprocessor of this device finds itself faultless, whatever it computes."""

        def launch(self, kernel: str, *arguments: Any, **shape: Any) -> None:
            """Run the kernel, and lose what the third multiprocessor says of itself."""
            super().launch(kernel, *arguments, **shape)
            wrong = arguments[6].reshape(-1, len(UNITS), 3)
            wrong[2 * SCHEDULERS : 3 * SCHEDULERS] = 0

    fault = Fault(probe="sm_sweep", kind="perturb", sm=2, line=1, mask=1)
    said = swept(Blind(), fault)
    assert said.verdict == "fail"
    assert said.evidence["sms"] == [2]


def test_a_multiprocessor_that_is_given_no_work_is_no_pass() -> None:
    class Wide(NumpyBackend):
        """A device that says it has more than answer."""

        traits = dataclasses.replace(NumpyBackend.traits, multiprocessors=10**3)

        def launch(self, kernel: str, *arguments: Any, **shape: Any) -> None:
            """Run on a few only."""
            super().launch(kernel, *arguments, **{**shape, "blocks": 3})

    said = swept(Wide())
    assert said.verdict == "inconclusive"
    assert "only 3 of 1000" in said.detail


@pytest.mark.parametrize(
    "fault",
    [
        Fault(probe="sm_sweep"),
        Fault(probe="sm_sweep", kind="perturb", sm=5_000),
        Fault(probe="sm_sweep", kind="perturb", line=4),
    ],
)
def test_a_fault_that_no_multiprocessor_has_is_inconclusive(fault: Fault) -> None:
    assert swept(NumpyBackend(), fault).verdict == "inconclusive"


def test_lanes_come_to_different_results_and_units_too() -> None:
    results = chains.results(9, 20)
    assert results.shape == (len(UNITS), LANES)
    assert len(np.unique(results)) == len(UNITS) * LANES
    assert not np.array_equal(results, chains.results(10, 20))
    assert operands.mix32(np.array([1], np.uint32))[0] != 1


def test_a_fused_multiplication_and_addition_rounds_once_as_the_chains_suppose() -> None:
    chance = np.random.default_rng(2)
    x = (np.uint32(0x3F800000) | chance.integers(0, 2**23, 2_000, dtype=np.uint32)).view(np.float32)
    factors = np.uint32(0x3F800000) | chance.integers(0, 2**23, 2_000, dtype=np.uint32) & np.uint32(
        0x7FF000
    )
    y = x.astype(np.float64) * factors.view(np.float32)
    exact = [int(a * 2**23) * int(b * 2**23) for a, b in zip(x, factors.view(np.float32), strict=True)]
    assert all(int(value * 2.0**46) == whole for value, whole in zip(y, exact, strict=True))
