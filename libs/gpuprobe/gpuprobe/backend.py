"""Where the kernels run: CuPy on a GPU, or the NumPy references on the host, which say so."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from gpuprobe.verdict import BackendName


class NoDevice(RuntimeError):
    """The device that was asked for cannot be used; the message says why."""


class NoGpu(NoDevice):
    """No GPU at all can be used from here: no CuPy, no driver, or no device."""


@dataclass(frozen=True)
class Backend:
    """An array module and one of its devices."""

    name: BackendName
    device: int
    arrays: ModuleType

    def here(self) -> AbstractContextManager[Any]:
        """Return the context in which this device is the one computed on."""
        return nullcontext() if self.name == "numpy" else self.arrays.cuda.Device(self.device)

    def put(self, host: Any) -> Any:
        """Return a copy of a NumPy array on the device."""
        return host if self.name == "numpy" else self.arrays.asarray(host)

    def fetch(self, array: Any) -> Any:
        """Return an array of the device as a NumPy array; waits for what is still computed."""
        return array if self.name == "numpy" else self.arrays.asnumpy(array)


def numpy_backend(device: int = 0) -> Backend:
    """Return the references: they exercise the check, not the device."""
    return Backend("numpy", device, np)


def cupy_backend(device: int) -> Backend:
    """Return a GPU. Raises ``NoDevice`` where CuPy, a driver or that GPU is missing."""
    try:
        import cupy  # noqa: PLC0415 - half a second, and only where there is a GPU
    except ImportError as fault:
        raise NoGpu(
            f"CuPy cannot be imported ({fault}); install the extra: mesh-gpuprobe[gpu]"
        ) from fault
    try:
        count = int(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError as fault:
        raise NoGpu(f"no GPU can be used: {fault}") from fault
    if not 0 <= device < count:
        raise NoDevice(f"there is no GPU {device}; this machine has {count}")
    return Backend("cupy", device, cupy)


def pick(device: int, wish: str = "auto") -> Backend:
    """Return the backend wished for: ``numpy``, ``cupy``, or (``auto``) CuPy where there is any GPU.

    Raises ``NoDevice`` where ``cupy`` is wished for in vain, or this GPU is not one of those there are.
    """
    if wish == "numpy":
        return numpy_backend(device)
    try:
        return cupy_backend(device)
    except NoGpu:
        if wish == "cupy":
            raise
        return numpy_backend(device)
