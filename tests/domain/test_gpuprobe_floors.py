"""Floors: each model has its own, in order, and what is not known of a card is not invented."""

import dataclasses
import re

import numpy as np
import pytest
from gpuprobe import floors, link
from gpuprobe.history import SAMPLES_MAX, SAMPLES_MIN, History
from gpuprobe.on_numpy import TRAITS, NumpyBackend
from gpuprobe.probe import Setting
from gpuprobe.verdict import BackendName


class Named(NumpyBackend):
    """A device that is judged like a GPU."""

    name: BackendName = "cupy"


def test_a_speed_that_is_no_number_is_no_pass() -> None:
    setting = Setting(backend=Named(), seed=1)
    assert floors.judge(setting, "x", float("nan"), floors.measured(1.0)).verdict == "fail"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 80GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H200 NVL", "H200 NVL"),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GB200", "GB200"),
        ("NVIDIA GB300", "GB300"),
        ("NVIDIA B300 SXM6 AC", "GB300"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", None),
    ],
)
def test_a_model_has_the_profile_of_its_own_name(model: str, name: str | None) -> None:
    found = floors.profile(model)
    assert (found.name if found else None) == name


def test_every_floor_lies_below_what_warns_and_that_below_what_is_expected() -> None:
    for profile in floors.PROFILES:
        assert re.compile(profile.pattern)
        for figure in (profile.copy, profile.pcie, *profile.gemm.values()):
            if figure is not None:
                assert 0 < figure.fail_below < figure.warn_below < figure.expected
                assert figure.source


def test_nothing_is_known_of_a_link_where_there_is_no_such_gpu() -> None:
    assert link.link("ffff:ff:ff.0") is None
    assert link.uuid("ffff:ff:ff.0") is None


QUICK_TFLOPS = (623.0, 683.0, 735.0)
"""Lowest, median and highest of 300 quick levels on a sound H200; their deviation is 3.3 %."""


def of_model(model: str, history: History, level: str) -> Setting:
    backend = Named()
    backend.traits = dataclasses.replace(TRAITS, model=model, uuid="GPU-1")
    return Setting(backend=backend, seed=1, level=level, history=history)


def quick_runs(count: int, chance: np.random.Generator) -> list[float]:
    low, usual, high = QUICK_TFLOPS
    return [float(v) for v in np.clip(chance.normal(usual, 0.033 * usual, count), low, high)]


def test_a_sound_card_at_its_power_limit_is_not_held_to_what_it_did_before_that() -> None:
    history = History()
    for tflops in quick_runs(SAMPLES_MAX, np.random.default_rng(1)):
        history.add("GPU-1", "quick", {"bf16_tflops": tflops})
    for model, figure in (("NVIDIA H200", floors.PROFILES[6].gemm["bf16"]), ("NVIDIA Z1", None)):
        for level in ("standard", "deep"):
            judged = floors.judge(of_model(model, history, level), "bf16_tflops", 600.0, figure)
            assert (judged.verdict, "baseline" in judged.evidence) == ("pass", False)


@pytest.mark.parametrize("known", [SAMPLES_MIN, 8, 16, SAMPLES_MAX])
def test_a_sound_cards_quick_level_never_fails_for_its_noise_and_seldom_warns(known: int) -> None:
    chance, warned = np.random.default_rng(known), 0
    for _ in range(300):
        history = History({"GPU-1": {"quick/bf16_tflops": quick_runs(known, chance)}})
        for model in ("NVIDIA H200", "NVIDIA Z1"):
            profile = floors.profile(model)
            figure = profile.gemm["bf16"] if profile else None
            setting = of_model(model, history, "quick")
            for tflops in (*QUICK_TFLOPS, *quick_runs(10, chance)):
                judged = floors.judge(setting, "bf16_tflops", tflops, figure)
                assert judged.verdict != "fail", judged
                warned += judged.verdict == "warn" and tflops > QUICK_TFLOPS[0]
    assert warned < 0.005 * 300 * 2 * 12


def test_short_of_its_own_past_alone_a_card_warns_and_far_short_it_fails() -> None:
    history = History({"GPU-1": {"deep/bf16_tflops": [800.0, 801.0, 799.0, 800.0, 800.0]}})
    setting = of_model("NVIDIA H200", history, "deep")
    figure = floors.measured(660, 0.90, 0.82)
    for tflops, verdict in ((790.0, "pass"), (750.0, "warn"), (610.0, "warn"), (599.0, "fail")):
        judged = floors.judge(setting, "bf16_tflops", tflops, figure)
        assert judged.verdict == verdict, judged
        assert (judged.action is None) == (verdict == "pass")
    below = floors.judge(of_model("NVIDIA H200", History(), "deep"), "bf16_tflops", 540.0, figure)
    assert below.verdict == "fail"
