"""MIG instances as an agent finds or makes them, against a double that answers as NVML's headers say."""

import sys
from ctypes import Structure, c_uint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mesh_contracts.placement.nouns import MigInstance
from node_agent.devices import NoInstance
from node_agent.devices.instances import instance_of

from tests.adapters.engines import host, member

pytestmark = pytest.mark.slow

STARTS = {19: (0, 1, 2, 3, 4, 5, 6), 9: (0, 4)}
NAMES = {19: "1g.10gb", 9: "3g.40gb"}


class Placement(Structure):
    """Where an instance begins, and how many slices it has."""

    _fields_ = (("start", c_uint), ("size", c_uint))


class Cut:
    """One GPU in MIG mode, with the instances that stand on it: profile and start by their numbers."""

    class NVMLError(Exception):
        """What NVML raises."""

    NVMLError_NotFound = type("NVMLError_NotFound", (NVMLError,), {})
    NVMLError_NotSupported = type("NVMLError_NotSupported", (NVMLError,), {})
    NVMLError_InvalidArgument = type("NVMLError_InvalidArgument", (NVMLError,), {})
    NVML_GPU_INSTANCE_PROFILE_1_SLICE = 0
    NVML_GPU_INSTANCE_PROFILE_2_SLICE = 1
    NVML_GPU_INSTANCE_PROFILE_3_SLICE = 2
    NVML_GPU_INSTANCE_PROFILE_4_SLICE = 3
    NVML_GPU_INSTANCE_PROFILE_7_SLICE = 4
    NVML_GPU_INSTANCE_PROFILE_1_SLICE_REV2 = 9
    NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE = 0
    NVML_COMPUTE_INSTANCE_PROFILE_3_SLICE = 2
    NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED = 0
    c_nvmlGpuInstancePlacement_t = Placement  # noqa: N815

    def __init__(self, *stand: tuple[int, int]) -> None:
        self.stand = list(stand)
        self.computes: set[int] = set(range(len(stand)))

    def nvmlDeviceGetMaxMigDeviceCount(self, device: Any) -> int:  # noqa: N802
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: Any, index: int) -> int:  # noqa: N802
        if index not in self.computes:
            raise self.NVMLError_NotFound
        return index

    def nvmlDeviceGetGpuInstanceId(self, handle: int) -> int:  # noqa: N802
        return handle

    def nvmlDeviceGetGpuInstanceById(self, device: Any, number: int) -> int:  # noqa: N802
        return number

    def nvmlGpuInstanceGetInfo(self, number: int) -> Any:  # noqa: N802
        return SimpleNamespace(placement=Placement(self.stand[number][1], 0))

    def nvmlDeviceGetUUID(self, handle: int) -> bytes:  # noqa: N802
        return f"MIG-{handle}".encode()

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return f"NVIDIA H100 80GB HBM3 MIG {NAMES[self.stand[handle][0]]}"

    def nvmlDeviceGetGpuInstanceProfileInfo(self, device: Any, kind: int) -> Any:  # noqa: N802
        if kind == self.NVML_GPU_INSTANCE_PROFILE_1_SLICE:
            return SimpleNamespace(id=19, sliceCount=1, memorySizeMB=9_984)
        if kind == self.NVML_GPU_INSTANCE_PROFILE_3_SLICE:
            return SimpleNamespace(id=9, sliceCount=3, memorySizeMB=40_448)
        raise self.NVMLError_NotSupported

    def nvmlDeviceGetGpuInstancePossiblePlacements(  # noqa: N802
        self, device: Any, profile: int, found: Any, count: Any
    ) -> None:
        starts = STARTS[profile]
        count._obj.value = len(starts)
        if found is not None:
            for at, start in enumerate(starts):
                found[at].start = start

    def nvmlDeviceCreateGpuInstanceWithPlacement(  # noqa: N802
        self, device: Any, profile: int, placement: Placement
    ) -> int:
        if any(start == placement.start for _, start in self.stand):
            raise self.NVMLError("Insufficient Resources")
        self.stand.append((profile, placement.start))
        return len(self.stand) - 1

    def nvmlGpuInstanceGetComputeInstanceProfileInfo(  # noqa: N802
        self, made: int, kind: int, engines: int
    ) -> Any:
        return SimpleNamespace(id=kind)

    def nvmlGpuInstanceCreateComputeInstance(self, made: int, kind: int) -> None:  # noqa: N802
        self.computes.add(made)


def test_an_instance_that_stands_there_is_found() -> None:
    nvml = Cut((9, 0), (19, 4))
    assert instance_of(nvml, object(), MigInstance(profile="1g.10gb", start=4)) == "MIG-1"
    assert len(nvml.stand) == 2


def test_one_that_does_not_is_made_where_placement_says() -> None:
    nvml = Cut((9, 0))
    assert instance_of(nvml, object(), MigInstance(profile="3g.40gb", start=4)) == "MIG-1"
    assert nvml.stand == [(9, 0), (9, 4)]


@pytest.mark.parametrize(
    ("wished", "said"),
    [
        (
            MigInstance(profile="1g.10gb", start=0),
            "at slice 0 stands NVIDIA H100 80GB HBM3 MIG 3g.40gb",
        ),
        (MigInstance(profile="3g.40gb", start=1), "lets no 3g.40gb begin at slice 1"),
        (MigInstance(profile="7g.80gb", start=0), "not 7g.80gb"),
        (MigInstance(profile="2g.20gb", start=2), "has no instances 2g.20gb"),
    ],
)
def test_what_cannot_be_had_is_told_with_what_to_do(wished: MigInstance, said: str) -> None:
    with pytest.raises(NoInstance, match=said):
        instance_of(Cut((9, 0)), object(), wished)


class OneGpu:
    """The devices of a server with one GPU, in MIG mode."""

    def __init__(self, *stand: tuple[int, int]) -> None:
        self.nvml = Cut(*stand)

    def instance(self, device_id: str, mig: MigInstance) -> str:
        assert device_id == "GPU-1"
        return instance_of(self.nvml, object(), mig)


async def test_a_member_sees_its_instance_and_nothing_else_or_says_why_it_did_not_begin(
    tmp_path: Path,
) -> None:
    tell = "import os; open('said', 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])"
    cut = {"devices": ["GPU-1"], "mig": MigInstance(profile="3g.40gb", start=4)}
    async with host(tmp_path / "workloads", tmp_path / "models") as here:
        wished = member(sys.executable, "-c", tell, **cut)
        here.agent(OneGpu((9, 0), (9, 4))).wish([wished])
        await here.told.said("stopped")
        assert (here.folder / wished.workload_id / "work" / "said").read_text() == "MIG-1"
    async with host(tmp_path / "others", tmp_path / "models") as here:
        here.agent(OneGpu((9, 0), (19, 4))).wish([member(sys.executable, "-c", tell, **cut)])
        failed = await here.told.said("failed")
        assert "at slice 4 stands NVIDIA H100 80GB HBM3 MIG 1g.10gb" in failed.reason


def test_what_the_driver_refuses_is_told_in_its_words() -> None:
    nvml = Cut((9, 4))
    nvml.computes.clear()
    with pytest.raises(NoInstance, match="Insufficient Resources"):
        instance_of(nvml, object(), MigInstance(profile="3g.40gb", start=4))
