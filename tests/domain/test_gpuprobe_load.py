"""Checks under load: a soak judged by its sensors, bursts, and ways between devices."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gpuprobe import peers_check, pulse_check, soak_check
from gpuprobe.exact import Shape
from gpuprobe.fabric import HostFabric, NoCollectives
from gpuprobe.fault import Fault
from gpuprobe.nvml import NoSensors, Sample
from gpuprobe.on_numpy import NumpyBackend
from gpuprobe.probe import Probe, Setting, check
from gpuprobe.soak_check import Size, Soaked, judge
from gpuprobe.verdict import Check, Finding

from tests.domain.probing import BACKENDS, opened

SHAPE = Shape(128, 256, 128)
SHORT = Size(0.0, 0.0, SHAPE)
LONG = Size(20.0, 0.1, SHAPE)


class Gpu(NumpyBackend):
    """A host that is taken for a GPU when a soak is judged."""

    name: Any = "cupy"


def checked(probe: Probe, size: Any, *faults: Fault, name: str = "numpy", seed: int = 3) -> Check:
    setting = Setting(backend=opened(name), seed=seed, level="standard", faults=faults)
    return check(probe, setting, size)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_sound_device_soaks_to_the_same_products_and_exact_ones(name: str) -> None:
    said = checked(soak_check.PROBE, SHORT, name=name)
    assert said.verdict == "pass", said
    assert said.evidence["exact_products"] == 1


@pytest.mark.parametrize("name", BACKENDS)
def test_a_product_that_differs_from_the_first_fails_a_soak(name: str) -> None:
    fault = Fault(probe="soak", word=77, mask=1 << 3)
    said = checked(soak_check.PROBE, SHORT, fault, name=name)
    assert (said.verdict, said.evidence["differing"]) == ("fail", 1)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_each_product_of_a_slice_counts_whichever_of_them_differs(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So long a slice that from the second on it holds eight products.
    monkeypatch.setattr(soak_check, "SLICE_MS", 1e6)
    soak = Size(0.3, 1.0, SHAPE)
    sound = checked(soak_check.PROBE, soak)
    assert sound.verdict == "pass"
    assert int(sound.evidence["products"]) % 8 == 1  # type: ignore[call-overload]
    said = checked(soak_check.PROBE, soak, Fault(probe="soak", word=77, mask=1 << 3, round=number))
    assert (said.verdict, said.evidence["differing"]) == ("fail", 1)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("round_number", [0, 1])
def test_a_tile_that_a_loaded_device_does_not_write_is_not_taken_for_the_product_before(
    name: str, round_number: int
) -> None:
    stale = {"kind": "stale", "row": 70, "col": 3, "round": round_number}
    soak = Size(0.05, 0.0, SHAPE)
    said = checked(soak_check.PROBE, soak, Fault(probe="soak", **stale), name=name)  # type: ignore[arg-type]
    assert (said.verdict, said.evidence["differing"]) == ("fail", 1)
    waves = pulse_check.Size((1.0,), 0.05, SHAPE)
    said = checked(pulse_check.PROBE, waves, Fault(probe="pulse", **stale), name=name)  # type: ignore[arg-type]
    assert (said.verdict, said.evidence["bursts_wrong"]) == ("fail", 1)
    # The next product of the burst is right, and stands where the wrong one did: its rows alone are known.
    assert said.evidence["row"] == 64


def judged(soaked: Soaked, size: Size = LONG, limit_w: float | None = 700.0, why: str = "") -> Finding:
    return judge(Setting(backend=Gpu(), seed=1), size, soaked, limit_w, why)


def soaked(
    sample: Callable[[int], Sample], speed: Callable[[float], float] = lambda _: 600.0
) -> Soaked:
    times = np.arange(0, 20, 0.1)
    return Soaked(
        products=1_000,
        exact=20,
        samples=[sample(number) for number in range(200)],
        speeds=[(float(t), speed(float(t))) for t in times],
    )


full = functools.partial(Sample, power_w=690.0, temperature_c=64, sm_mhz=1_700, reasons=4)


def test_full_power_at_a_steady_speed_passes() -> None:
    said = judged(soaked(full))
    assert said.verdict == "pass"
    assert said.measured["soak_tflops"] == 600.0
    assert said.evidence["power_max_w"] == 690


@pytest.mark.parametrize(
    ("sample", "speed", "verdict", "why"),
    [
        (lambda n: full(n, power_w=400.0), lambda _: 600.0, "warn", "draws 400 W at most, of 700 W"),
        (full, lambda t: 600.0 - 2 * t, "warn", "fell from 592 to 564"),
        (lambda n: full(n, reasons=0x20), lambda _: 600.0, "warn", "held the clock down for heat"),
        (lambda n: full(n, reasons=0x8C), lambda _: 600.0, "fail", "hardware slowdown, power brake"),
        (lambda n: full(n, reasons=0x40), lambda _: 600.0, "fail", "hardware thermal slowdown"),
        (
            lambda n: full(n, reasons=0x40 * (n == 3)),
            lambda _: 600.0,
            "pass",
            "under load are the same",
        ),
        (lambda n: Sample(n, power_w=690.0), lambda _: 600.0, "pass", "20 exact ones right"),
    ],
)
def test_what_the_sensors_say_decides(
    sample: Callable[[int], Sample], speed: Callable[[float], float], verdict: str, why: str
) -> None:
    said = judged(soaked(sample, speed))
    assert (said.verdict, why in said.detail) == (verdict, True), said


def test_wrong_results_outweigh_every_sensor() -> None:
    hot = soaked(lambda n: full(n, reasons=0x8))
    hot.exact_wrong = 1
    assert "1 exact products are wrong" in judged(hot).detail
    assert judged(hot).evidence["exact_wrong"] == 1


def test_a_gpu_without_sensors_is_inconclusive_never_a_pass() -> None:
    said = judged(Soaked(products=5, exact=1), why="no driver")
    assert (said.verdict, "no driver" in said.detail) == ("inconclusive", True)

    def closed(_: str) -> Any:
        raise NoSensors("no driver")

    setting = Setting(backend=NumpyBackend(), seed=1)
    assert soak_check.run(setting, SHORT, open_card=closed).verdict == "pass"


def test_a_trace_of_a_long_soak_stays_small() -> None:
    said = judged(soaked(full))
    powers = said.evidence["power_w"]
    assert isinstance(powers, list)
    assert len(powers) <= soak_check.TRACE_MAX


@pytest.mark.parametrize("name", BACKENDS)
def test_bursts_of_a_sound_device_are_exact_at_every_pace(name: str) -> None:
    size = pulse_check.Size((0.01, 1.0), 0.01, SHAPE)
    said = checked(pulse_check.PROBE, size, name=name)
    assert said.verdict == "pass", said
    assert int(str(said.evidence["bursts"])) >= 2


@pytest.mark.parametrize("name", BACKENDS)
def test_one_wrong_product_in_one_burst_is_found(name: str) -> None:
    size = pulse_check.Size((0.01, 1.0), 0.0, SHAPE)
    fault = Fault(probe="pulse", row=9, col=5, mask=1 << 20)
    said = checked(pulse_check.PROBE, size, fault, name=name)
    assert (said.verdict, said.evidence["bursts_wrong"]) == ("fail", 1)
    assert said.evidence["periods_wrong_ms"] == "0.01"
    assert said.evidence["row"] == 9


@pytest.mark.parametrize("name", ["numpy", "host"])
def test_every_way_between_devices_is_gone_both_directions(name: str) -> None:
    said = checked(peers_check.PROBE, peers_check.Size(2**10, 1), name=name)
    assert said.verdict == "pass", said
    assert said.evidence["ways"] == 4
    assert said.evidence["sums"] == "3 devices"


def test_a_word_that_changes_on_its_way_is_found_with_the_way() -> None:
    fault = Fault(probe="peers", word=77, mask=0x81)
    said = checked(peers_check.PROBE, peers_check.Size(2**10, 1), fault)
    assert said.verdict == "fail"
    assert (said.evidence["from"], said.evidence["to"]) == (0, 1)
    assert (said.evidence["word"], said.evidence["xor"]) == (77, "0x81")


class Lossy(HostFabric):
    """Three devices whose sums over all lose a word on the last."""

    def add_up(self, arrays: list[Any]) -> list[Any]:
        """Add up, and change one word."""
        sums = super().add_up(arrays)
        sums[-1][5] ^= np.uint32(1)
        return sums


class Alone(HostFabric):
    """Devices without a library for sums over all."""

    def add_up(self, arrays: list[Any]) -> list[Any]:
        """Refuse."""
        raise NoCollectives("no library")


def over(fabric: type[HostFabric]) -> Finding:
    setting = Setting(backend=NumpyBackend(), seed=1)
    backends = [NumpyBackend(index) for index in range(3)]
    return peers_check.run_over(setting, peers_check.Size(64, 1), fabric(list(backends)))


def test_a_sum_over_all_devices_that_is_wrong_on_one_fails() -> None:
    said = over(Lossy)
    assert (said.verdict, said.evidence["sums_wrong"]) == ("fail", 1)


def test_sums_that_cannot_be_made_are_no_pass_and_the_ways_still_judged() -> None:
    said = over(Alone)
    assert said.verdict == "inconclusive"
    assert (
        said.detail
        == "4 ways between GPUs carry every word; sums over all GPUs were not made: no library"
    )


def test_ways_are_left_out_where_there_is_one_gpu_only() -> None:
    class Single(Gpu):
        """A server of one GPU."""

        class arrays:  # noqa: N801
            class cuda:  # noqa: N801
                class runtime:  # noqa: N801
                    @staticmethod
                    def getDeviceCount() -> int:  # noqa: N802
                        return 1

    setting = Setting(backend=Single(), seed=1, level="standard")
    assert peers_check.PROBE.size(setting) is None
