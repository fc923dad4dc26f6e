"""Where the kernels run: on a GPU, or one of two ways on the host, which say so.

``cupy`` compiles the CUDA sources for a GPU; ``host`` compiles the same sources with an ordinary
compiler, so that they can be tried without one; ``numpy`` has a reference for each. Levels,
floors, slices, faults and verdicts are the same on all three.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from gpuprobe.presence import nvidia
from gpuprobe.verdict import BackendName

THREADS = 256
"""Threads of a block, where a kernel does not care."""

WAVES = 4
"""Blocks to a multiprocessor, where a kernel does not care: on an H200 memory is fastest with four."""


class NoDevice(RuntimeError):
    """The device that was asked for cannot be used; the message says why."""


class NoGpu(NoDevice):
    """No GPU at all can be used from here: no CuPy, no driver, or no device."""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a device says of itself. ``shared_bytes`` is the most one block may take."""

    model: str
    uuid: str
    pci: str
    multiprocessors: int
    memory_bytes: int
    l2_bytes: int
    shared_bytes: int
    capability: tuple[int, int]


class Backend(Protocol):
    """A device, its arrays (NumPy's or CuPy's), and how a kernel is run there."""

    @property
    def name(self) -> BackendName:
        """Which of the three this is."""

    @property
    def device(self) -> int:
        """The device's index."""

    @property
    def arrays(self) -> Any:
        """The array module."""

    @property
    def traits(self) -> Traits:
        """What the device says of itself."""

    def here(self) -> AbstractContextManager[Any]:
        """Return the context in which this device is the one computed on."""

    def put(self, host: Any) -> Any:
        """Return a copy of a NumPy array on the device."""

    def fetch(self, array: Any) -> Any:
        """Return an array of the device as a NumPy array; waits for what is still computed."""

    def empty(self, count: int, dtype: Any) -> Any:
        """Return a flat array with whatever was there before; freed as soon as it is let go."""

    def address(self, array: Any) -> int:
        """Return where an array begins, as the device addresses it."""

    def pinned(self, count: int, dtype: Any) -> Any:
        """Return a flat NumPy array that the device can reach by itself."""

    def move(self, to: Any, source: Any) -> None:
        """Begin to copy an array of the device or a pinned one into another of the same size."""

    def both(self, first: Callable[[], None], second: Callable[[], None]) -> float:
        """Do two works at once; return the milliseconds until both are done."""

    def free_bytes(self) -> int:
        """Return how much memory could be had now."""

    def launch(
        self, kernel: str, *arguments: Any, blocks: int = 0, threads: int = THREADS, shared: int = 0
    ) -> None:
        """Begin a kernel; arrays and numbers become what its source declares.

        ``blocks`` 0 fills the device: for kernels whose result does not depend on it.
        """

    def prepare(self, *kernels: str) -> None:
        """Make kernels ready: what is timed afterwards is their run alone."""

    def timed(self, work: Callable[[], None]) -> float:
        """Do ``work``, wait for it, and return the device's milliseconds."""

    def wait(self) -> None:
        """Return when the device has done what was begun."""


def pick(device: int, wish: str = "auto") -> Backend:
    """Return the backend wished for: ``numpy``, ``host``, ``cupy``, or (``auto``) a GPU where there is any.

    Only where there is nothing of NVIDIA's does ``auto`` mean the references: a GPU whose driver is
    broken is not well because NumPy is. Raises ``NoDevice`` where what is wished for cannot be had, or
    this GPU is not one of those there are.
    """
    from gpuprobe.on_cuda import CudaBackend  # noqa: PLC0415 - each backend knows this module
    from gpuprobe.on_host import HostBackend  # noqa: PLC0415 - same
    from gpuprobe.on_numpy import NumpyBackend  # noqa: PLC0415 - same

    if wish == "numpy":
        return NumpyBackend(device)
    if wish == "host":
        return HostBackend(device)
    try:
        return CudaBackend.open(device)
    except NoGpu as fault:
        if wish == "cupy":
            raise
        here = nvidia()
        if here is not None:
            raise NoGpu(f"{here}, but {fault}") from fault
        return NumpyBackend(device)
