"""Floors: each model has its own, in order, and what is not known of a card is not invented."""

import re

import pytest
from gpuprobe import floors, link
from gpuprobe.on_numpy import NumpyBackend
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
