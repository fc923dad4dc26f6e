"""A GPU: the CUDA sources compiled by NVRTC, or loaded as built before, and run through CuPy."""

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gpuprobe import link, source
from gpuprobe.backend import THREADS, WAVES, NoDevice, NoGpu, Traits
from gpuprobe.verdict import BackendName

CUBINS = "GPUPROBE_CUBINS"
"""The folder of kernels built before (``python -m gpuprobe.build``), where there is one."""

SHARED_BYTES = 48 * 2**10
"""What a block may take of shared memory without being allowed to."""

OPTIONS = ("-std=c++17",)

_TYPES: dict[str, Any] = {
    "u32": np.uint32,
    "i32": np.int32,
    "u64": np.uint64,
    "i64": np.int64,
    "f32": np.float32,
    "f64": np.float64,
}


class CudaBackend:
    """One GPU, through CuPy (``arrays``)."""

    name: BackendName = "cupy"

    def __init__(self, device: int, arrays: Any) -> None:
        self.device = device
        self.arrays = arrays
        self._functions: dict[str, Any] = {}
        self._modules: dict[str, Any] = {}
        self._allowed: dict[str, int] = {}
        self._ready: set[str] = set()

    @classmethod
    def open(cls, device: int) -> "CudaBackend":
        """Return a GPU. Raises ``NoDevice`` where CuPy, a driver or that GPU is missing."""
        try:
            import cupy  # noqa: PLC0415 - half a second, and only where there is a GPU
        except ImportError as fault:
            raise NoGpu(
                f"CuPy cannot be imported ({fault}); install the extra: mesh-gpuprobe[gpu]"
            ) from fault
        arrays: Any = cupy
        runtime = arrays.cuda.runtime
        try:
            count = int(runtime.getDeviceCount())
        except runtime.CUDARuntimeError as fault:
            raise NoGpu(f"no GPU can be used: {fault}") from fault
        if not 0 <= device < count:
            raise NoDevice(f"there is no GPU {device}; this machine has {count}")
        return cls(device, arrays)

    @cached_property
    def traits(self) -> Traits:
        """What the driver says of the GPU."""
        said = self.arrays.cuda.runtime.getDeviceProperties(self.device)
        pci = str(self.arrays.cuda.Device(self.device).pci_bus_id)
        return Traits(
            model=said["name"].decode(errors="replace"),
            uuid=link.uuid(pci) or f"pci-{pci}",
            pci=pci,
            multiprocessors=int(said["multiProcessorCount"]),
            memory_bytes=int(said["totalGlobalMem"]),
            l2_bytes=int(said["l2CacheSize"]),
            shared_bytes=int(said.get("sharedMemPerBlockOptin", said["sharedMemPerBlock"])),
            capability=(int(said["major"]), int(said["minor"])),
        )

    def here(self) -> AbstractContextManager[Any]:
        """Return the context in which this GPU is the one computed on."""
        context: AbstractContextManager[Any] = self.arrays.cuda.Device(self.device)
        return context

    def put(self, host: Any) -> Any:
        """Return a copy of a NumPy array on the GPU."""
        return self.arrays.asarray(host)

    def fetch(self, array: Any) -> Any:
        """Return an array of the GPU as a NumPy array; waits for what is still computed."""
        return self.arrays.asnumpy(array)

    def empty(self, count: int, dtype: Any) -> Any:
        """Return a flat array, allocated past CuPy's pool: what is let go is free for the next tenant."""
        dtype = np.dtype(dtype)
        memory = self.arrays.cuda.Memory(max(count, 1) * dtype.itemsize)
        pointer = self.arrays.cuda.MemoryPointer(memory, 0)
        return self.arrays.ndarray((count,), dtype, memptr=pointer)

    def address(self, array: Any) -> int:
        """Return where an array begins on the GPU."""
        return int(array.data.ptr)

    def pinned(self, count: int, dtype: Any) -> Any:
        """Return a flat array in pinned memory of the host."""
        dtype = np.dtype(dtype)
        memory = self.arrays.cuda.alloc_pinned_memory(count * dtype.itemsize)
        return np.frombuffer(memory, dtype, count)

    def move(self, to: Any, source: Any) -> None:
        """Begin a copy on the current stream; the driver sees from the addresses which way it goes."""
        assert to.nbytes == source.nbytes
        cuda = self.arrays.cuda
        at, of = (a.ctypes.data if isinstance(a, np.ndarray) else a.data.ptr for a in (to, source))
        stream = cuda.get_current_stream().ptr
        cuda.runtime.memcpyAsync(at, of, to.nbytes, cuda.runtime.memcpyDefault, stream)

    def both(self, first: Callable[[], None], second: Callable[[], None]) -> float:
        """Do each on a stream of its own."""
        one, other = (self.arrays.cuda.Stream(non_blocking=True) for _ in range(2))
        self.wait()
        began = time.perf_counter()
        with one:
            first()
        with other:
            second()
        one.synchronize()
        other.synchronize()
        return (time.perf_counter() - began) * 1_000

    def free_bytes(self) -> int:
        """Return the driver's count of free memory, after what CuPy's pool held is given back."""
        self.arrays.get_default_memory_pool().free_all_blocks()
        free, _ = self.arrays.cuda.runtime.memGetInfo()
        return int(free)

    def launch(
        self, kernel: str, *arguments: Any, blocks: int = 0, threads: int = THREADS, shared: int = 0
    ) -> None:
        """Begin a kernel on the current stream."""
        declared = source.kernels()[kernel].arguments
        assert len(declared) == len(arguments), f"{kernel} takes {len(declared)} arguments"
        passed = tuple(
            value if argument.kind == "pointer" else _TYPES[argument.kind](value)
            for argument, value in zip(declared, arguments, strict=True)
        )
        function = self._function(kernel)
        if shared > self._allowed.get(kernel, SHARED_BYTES):
            function.max_dynamic_shared_size_bytes = self._allowed[kernel] = shared
        blocks = blocks or self.traits.multiprocessors * WAVES
        function((blocks,), (threads,), passed, shared_mem=shared)

    def prepare(self, *kernels: str) -> None:
        """Compile and load what will be timed."""
        for kernel in {*kernels} - self._ready:
            # Asking for its registers is what makes CuPy and the driver load it.
            assert self._function(kernel).num_regs
            self._ready.add(kernel)

    def timed(self, work: Callable[[], None]) -> float:
        """Do ``work``, wait for it, and return its milliseconds by the GPU's own events."""
        cuda = self.arrays.cuda
        began, ended = cuda.Event(), cuda.Event()
        began.record()
        work()
        ended.record()
        ended.synchronize()
        return float(cuda.get_elapsed_time(began, ended))

    def wait(self) -> None:
        """Return when the GPU has done what was begun."""
        self.arrays.cuda.Device(self.device).synchronize()

    def _function(self, kernel: str) -> Any:
        if kernel not in self._functions:
            file = source.kernels()[kernel].file
            if file not in self._modules:
                self._modules[file] = self._module(file)
            self._functions[kernel] = self._modules[file].get_function(kernel)
        return self._functions[kernel]

    def _module(self, file: str) -> Any:
        built = self._built(file)
        if built is not None:
            return self.arrays.RawModule(path=str(built))
        return self.arrays.RawModule(code=source.text(file), options=OPTIONS, backend="nvrtc")

    def _built(self, file: str) -> Path | None:
        folder = os.environ.get(CUBINS)
        if not folder:
            return None
        major, minor = self.traits.capability
        path = Path(folder) / cubin_name(file, f"sm_{major}{minor}")
        return path if path.is_file() else None


def cubin_name(file: str, arch: str) -> str:
    """Return what a kernel file's code for ``arch`` is called: another source has another name."""
    return f"{file}.{source.digest(file)}.{arch}.cubin"
