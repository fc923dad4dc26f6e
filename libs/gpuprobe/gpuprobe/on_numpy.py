"""The references: what each kernel must compute, by NumPy; they exercise a check, not a device."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from gpuprobe.backend import THREADS, Traits
from gpuprobe.reference import REFERENCES, Grid
from gpuprobe.verdict import BackendName

MEMORY_BYTES = 64 * 2**20
"""What the host pretends to have: a check takes all that is free."""

TRAITS = Traits(
    model="host",
    uuid="host",
    pci="",
    multiprocessors=4,
    memory_bytes=MEMORY_BYTES,
    l2_bytes=2**20,
    shared_bytes=16 * 2**10,
    capability=(0, 0),
)


class NumpyBackend:
    """The references on the host."""

    name: BackendName = "numpy"
    arrays: Any = np
    traits = TRAITS

    def __init__(self, device: int = 0) -> None:
        self.device = device

    def here(self) -> AbstractContextManager[Any]:
        """Return a context that changes nothing."""
        return nullcontext()

    def put(self, host: Any) -> Any:
        """Return the array itself."""
        return host

    def fetch(self, array: Any) -> Any:
        """Return the array itself."""
        return array

    def empty(self, count: int, dtype: Any) -> Any:
        """Return a flat array with whatever was there before."""
        return np.empty(count, dtype)

    def address(self, array: Any) -> int:
        """Return where an array begins."""
        return int(array.ctypes.data)

    def pinned(self, count: int, dtype: Any) -> Any:
        """Return an array like any other."""
        return np.empty(count, dtype)

    def move(self, to: Any, source: Any) -> None:
        """Copy an array into another."""
        to[:] = source

    def both(self, first: Callable[[], None], second: Callable[[], None]) -> float:
        """Do one after the other."""
        return self.timed(first) + self.timed(second)

    def free_bytes(self) -> int:
        """Return what the host pretends to have."""
        return MEMORY_BYTES

    def launch(
        self, kernel: str, *arguments: Any, blocks: int = 0, threads: int = THREADS, shared: int = 0
    ) -> None:
        """Run the kernel's reference."""
        REFERENCES[kernel](Grid(blocks or self.traits.multiprocessors, threads, shared), *arguments)

    def prepare(self, *kernels: str) -> None:
        """Make sure that there is a reference for each."""
        assert set(kernels) <= set(REFERENCES)

    def timed(self, work: Callable[[], None]) -> float:
        """Do ``work`` and return its milliseconds."""
        began = time.perf_counter()
        work()
        return (time.perf_counter() - began) * 1_000

    def wait(self) -> None:
        """Return at once: nothing runs by itself here."""
