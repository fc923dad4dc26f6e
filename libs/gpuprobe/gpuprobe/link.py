"""What NVML says of a GPU by its place on the bus; silence where NVML or a function is not there."""

from dataclasses import dataclass
from functools import cache
from typing import Any


@dataclass(frozen=True)
class Link:
    """A PCIe link as it is trained now, and as both ends could have it."""

    generation: int
    generation_max: int
    width: int
    width_max: int

    @property
    def degraded(self) -> bool:
        """Tell whether the link is narrower or slower than it could be."""
        return self.width < self.width_max or self.generation < self.generation_max


def uuid(pci: str) -> str | None:
    """Return a GPU's UUID, or ``None`` where NVML does not say."""
    try:
        nvml = _nvml()
        said = nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByPciBusId(pci.encode()))
    except Exception:  # noqa: BLE001 - no binding, no driver, no such function: all the same here
        return None
    return said.decode() if isinstance(said, bytes) else str(said)


def link(pci: str) -> Link | None:
    """Return a GPU's PCIe link, or ``None`` where NVML does not say."""
    try:
        nvml = _nvml()
        handle = nvml.nvmlDeviceGetHandleByPciBusId(pci.encode())
        return Link(
            int(nvml.nvmlDeviceGetCurrPcieLinkGeneration(handle)),
            int(nvml.nvmlDeviceGetMaxPcieLinkGeneration(handle)),
            int(nvml.nvmlDeviceGetCurrPcieLinkWidth(handle)),
            int(nvml.nvmlDeviceGetMaxPcieLinkWidth(handle)),
        )
    except Exception:  # noqa: BLE001 - same
        return None


@cache
def _nvml() -> Any:
    import pynvml  # noqa: PLC0415 - part of the extra, like CuPy

    nvml: Any = pynvml
    nvml.nvmlInit()
    return nvml
