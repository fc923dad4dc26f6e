"""MIG instances through NVML: the one that placement names is found, or made where its slices are free.

Unverified: no GPU in MIG mode was at hand. The tests run it against a double that answers as NVML's headers say.
Instances are never destroyed here: one that is left stands where placement may name it again, and one that is in
the way of another is named to people.
"""

from collections.abc import Iterator
from ctypes import byref, c_uint
from typing import Any

from mesh_contracts.placement.nouns import MigInstance

from node_agent.devices import NoInstance

GPU_PROFILES = ("1_SLICE", "2_SLICE", "3_SLICE", "4_SLICE", "7_SLICE", "1_SLICE_REV2")
"""The kinds of instances without media engines or graphics, as NVML calls them."""
GB_MIB = 1024


def instance_of(nvml: Any, device: Any, wished: MigInstance) -> str:
    """Return the UUID of an instance, as ``CUDA_VISIBLE_DEVICES`` takes it. Raises ``NoInstance``."""
    try:
        return _found(nvml, device, wished) or _made(nvml, device, wished)
    except nvml.NVMLError as fault:
        raise NoInstance(
            f"{wished.profile} at slice {wished.start} cannot be had through NVML ({fault}): see nvidia-smi mig -lgi"
        ) from fault


def _found(nvml: Any, device: Any, wished: MigInstance) -> str | None:
    """Return the UUID of the instance that stands just there; nothing where none does."""
    for handle in _instances(nvml, device):
        number = nvml.nvmlDeviceGetGpuInstanceId(handle)
        info = nvml.nvmlGpuInstanceGetInfo(nvml.nvmlDeviceGetGpuInstanceById(device, number))
        if info.placement.start != wished.start:
            continue
        uuid = nvml.nvmlDeviceGetUUID(handle)
        name = nvml.nvmlDeviceGetName(handle)
        if _text(name).endswith(f"MIG {wished.profile}"):
            return _text(uuid)
        raise NoInstance(
            f"at slice {wished.start} stands {_text(name)}, not {wished.profile}:"
            f" destroy it (nvidia-smi mig -dci -gi {number}, -dgi -gi {number}), or have placement avoid this node"
        )
    return None


def _made(nvml: Any, device: Any, wished: MigInstance) -> str:
    """Make the instance, and the compute instance that takes all of it; return its UUID."""
    info = _profile(nvml, device, wished.profile)
    placement = next(
        (one for one in _placements(nvml, device, info.id) if one.start == wished.start), None
    )
    if placement is None:
        raise NoInstance(f"this GPU lets no {wished.profile} begin at slice {wished.start}")
    made = nvml.nvmlDeviceCreateGpuInstanceWithPlacement(device, info.id, placement)
    kind = getattr(nvml, f"NVML_COMPUTE_INSTANCE_PROFILE_{info.sliceCount}_SLICE")
    engines = nvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED
    whole = nvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(made, kind, engines)
    nvml.nvmlGpuInstanceCreateComputeInstance(made, whole.id)
    found = _found(nvml, device, wished)
    if found is None:
        raise NoInstance(f"{wished.profile} was made at slice {wished.start} and is not listed")
    return found


def _profile(nvml: Any, device: Any, name: str) -> Any:
    """Return what NVML says of a profile: that of as many compute slices whose memory is nearest to its name's."""
    compute, _, memory = name.removesuffix("gb").partition("g.")
    known = []
    for kind in GPU_PROFILES:
        try:
            info = nvml.nvmlDeviceGetGpuInstanceProfileInfo(
                device, getattr(nvml, f"NVML_GPU_INSTANCE_PROFILE_{kind}")
            )
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_InvalidArgument):
            continue
        if str(info.sliceCount) == compute:
            known.append(info)
    if not known:
        raise NoInstance(f"this GPU has no instances {name}")
    return min(known, key=lambda info: abs(info.memorySizeMB - int(memory) * GB_MIB))


def _placements(nvml: Any, device: Any, profile_id: int) -> list[Any]:
    count = c_uint(0)
    nvml.nvmlDeviceGetGpuInstancePossiblePlacements(device, profile_id, None, byref(count))
    found = (nvml.c_nvmlGpuInstancePlacement_t * count.value)()
    nvml.nvmlDeviceGetGpuInstancePossiblePlacements(device, profile_id, found, byref(count))
    return list(found)[: count.value]


def _instances(nvml: Any, device: Any) -> Iterator[Any]:
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(device)):
        try:
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, index)
        except nvml.NVMLError_NotFound:
            continue


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
