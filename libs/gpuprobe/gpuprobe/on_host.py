"""The CUDA sources compiled for the host: the same text that a GPU runs, thread after thread."""

import ctypes
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from gpuprobe import source
from gpuprobe.backend import THREADS, NoDevice
from gpuprobe.on_numpy import NumpyBackend
from gpuprobe.verdict import BackendName

COMPILED_WITHIN_S = 120.0
FLAGS = (
    *("-O1", "-shared", "-fPIC", "-std=c++17", "-fno-strict-aliasing", "-ffp-contract=off"),
    *("-fno-sanitize=undefined", "-Wall", "-Wno-unused-function", "-Wno-unknown-pragmas"),
)
THREADS_MAX = 32
"""Blocks are cut down to this: threads run one after the other, and a kernel does not care how many."""

_C_TYPES: dict[str, Any] = {
    "pointer": ctypes.c_void_p,
    "u32": ctypes.c_uint32,
    "i32": ctypes.c_int32,
    "u64": ctypes.c_uint64,
    "i64": ctypes.c_int64,
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
}


class HostBackend(NumpyBackend):
    """The kernels' own source on the host; device-only ones by their references."""

    name: BackendName = "host"

    def __init__(self, device: int = 0) -> None:
        super().__init__(device)
        self._compiler = compiler()

    def launch(
        self, kernel: str, *arguments: Any, blocks: int = 0, threads: int = THREADS, shared: int = 0
    ) -> None:
        """Call the kernel once for each thread."""
        if source.kernels()[kernel].device_only:
            super().launch(kernel, *arguments, blocks=blocks, threads=threads, shared=shared)
            return
        if blocks == 0:
            blocks, threads = self.traits.multiprocessors, min(threads, THREADS_MAX)
        _function(kernel, self._compiler)(blocks, threads, *map(_passed, arguments))

    def prepare(self, *kernels: str) -> None:
        """Compile what can be compiled for the host."""
        for kernel in kernels:
            if not source.kernels()[kernel].device_only:
                _function(kernel, self._compiler)


@cache
def compiler() -> tuple[str, ...]:
    """Return the command of a C++ compiler. Raises ``NoDevice`` where there is none."""
    for name in ("g++", "clang++", "c++"):
        found = shutil.which(name)
        if found:
            return (found,)
    if find_spec("ziglang"):
        # Not its ``c++``, which first builds a whole library of C++ that no kernel needs.
        return (sys.executable, "-m", "ziglang", "cc", "-x", "c++")
    raise NoDevice("no C++ compiler: install g++, or the wheel ziglang")


def build(file: str, folder: Path, command: tuple[str, ...]) -> Path:
    """Return the shared library made of a kernel file. Raises ``NoDevice`` where it does not compile."""
    program = folder / f"{file}.cpp"
    library = folder / f"{file}.so"
    program.write_text(source.text(file) + "".join(map(_wrapped, _of(file))))
    command = (*command, *FLAGS, "-o", str(library), str(program))
    try:
        done = subprocess.run(  # noqa: S603 - our own source, a compiler found by name
            command, capture_output=True, text=True, timeout=COMPILED_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired as fault:
        raise NoDevice(f"{file}.cu takes too long to compile for the host: {fault}") from fault
    if done.returncode != 0:
        raise NoDevice(f"{file}.cu does not compile for the host: {done.stderr.strip()[:2_000]}")
    return library


def _of(file: str) -> list[source.Kernel]:
    return [k for k in source.kernels().values() if k.file == file and not k.device_only]


def _wrapped(kernel: source.Kernel) -> str:
    """Return the C function that runs a kernel for every thread of every block."""
    declared = "".join(f", {a.declared} {a.name}" for a in kernel.arguments)
    passed = ", ".join(a.name for a in kernel.arguments)
    return (
        f'\nextern "C" void host_{kernel.name}(u32 blocks_, u32 threads_{declared}) {{\n'
        "    gridDim.x = blocks_;\n    blockDim.x = threads_;\n"
        "    for (blockIdx.x = 0; blockIdx.x < blocks_; ++blockIdx.x)\n"
        "        for (threadIdx.x = 0; threadIdx.x < threads_; ++threadIdx.x)\n"
        f"            {kernel.name}({passed});\n}}\n"
    )


@cache
def _library(file: str, command: tuple[str, ...]) -> ctypes.CDLL:
    # Once loaded a library needs its file no more.
    with tempfile.TemporaryDirectory(prefix="gpuprobe-") as folder:
        return ctypes.CDLL(str(build(file, Path(folder), command)))


@cache
def _function(name: str, command: tuple[str, ...]) -> Any:
    kernel = source.kernels()[name]
    function = getattr(_library(kernel.file, command), f"host_{name}")
    function.argtypes = [
        ctypes.c_uint32,
        ctypes.c_uint32,
        *(_C_TYPES[a.kind] for a in kernel.arguments),
    ]
    function.restype = None
    return function


def _passed(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous
        return argument.ctypes.data
    return argument.item() if isinstance(argument, np.generic) else argument
