"""``python -m gpuprobe.build --arch sm_90 --out FOLDER``: kernels compiled ahead, by NVRTC alone.

Neither a driver nor CuPy is needed: the compiler's library comes from the wheel
``nvidia-cuda-nvrtc``, or from wherever the loader finds one. A check finds the folder by the
variable ``GPUPROBE_CUBINS``; without it, it compiles at its start.
"""

import argparse
import ctypes
import ctypes.util
import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gpuprobe import source
from gpuprobe.on_cuda import OPTIONS, cubin_name

ARCHES = ("sm_80", "sm_90", "sm_100")
_ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
_SPILL = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")


class NoCompiler(RuntimeError):
    """NVRTC cannot be loaded; the message says why."""


class Rejected(RuntimeError):
    """A source does not compile; the message is the compiler's."""


@dataclass(frozen=True)
class Report:
    """What the compiler says of one kernel."""

    kernel: str
    registers: int
    stack_bytes: int
    spill_bytes: int


@cache
def nvrtc() -> Any:
    """Return NVRTC. Raises ``NoCompiler``."""
    spec = find_spec("nvidia")
    for root in spec.submodule_search_locations or () if spec else ():
        for path in sorted(Path(root).glob("**/libnvrtc.so.1?")):
            # What it loads beside itself is found only once it is there.
            for part in sorted(path.parent.glob("libnvrtc-builtins.so*")):
                ctypes.CDLL(str(part))
            return ctypes.CDLL(str(path))
    found = ctypes.util.find_library("nvrtc")
    if found is None:
        raise NoCompiler("there is no NVRTC: install the wheel nvidia-cuda-nvrtc")
    return ctypes.CDLL(found)


def compile_kernels(file: str, arch: str) -> tuple[bytes, list[Report]]:
    """Return a kernel file's code for ``arch``, and what the compiler says. Raises ``Rejected``."""
    library = nvrtc()
    program = ctypes.c_void_p()
    _ask(
        library.nvrtcCreateProgram(
            *(ctypes.byref(program), source.text(file).encode(), f"{file}.cu".encode(), 0, None, None)
        )
    )
    try:
        options = [*OPTIONS, f"-arch={arch}", "--ptxas-options=-v"]
        passed = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        status = library.nvrtcCompileProgram(program, len(options), passed)
        log = _read(program, library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog)
        if status != 0:
            raise Rejected(f"{file}.cu for {arch}: {log.decode(errors='replace')}")
        code = _read(program, library.nvrtcGetCUBINSize, library.nvrtcGetCUBIN)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
    return code, reports(log.decode(errors="replace"))


def reports(log: str) -> list[Report]:
    """Return what a compiler's verbose log says of each kernel."""
    found = []
    for part in re.split(r"(?=Compiling entry function)", log):
        entry, spill, used = _ENTRY.search(part), _SPILL.search(part), _USED.search(part)
        if entry and spill and used:
            stack, stores, loads = map(int, spill.groups())
            found.append(Report(entry[1], int(used[1]), stack, stores + loads))
    return found


def _read(program: ctypes.c_void_p, size_of: Any, get: Any) -> bytes:
    size = ctypes.c_size_t()
    _ask(size_of(program, ctypes.byref(size)))
    text = ctypes.create_string_buffer(size.value)
    _ask(get(program, text))
    return text.raw


def _ask(status: int) -> None:
    if status != 0:
        raise Rejected(f"NVRTC answered {status}")


def main() -> int:
    """Compile every kernel file for every architecture asked for."""
    parser = argparse.ArgumentParser(prog="python -m gpuprobe.build", description=__doc__)
    parser.add_argument("--arch", action="append", metavar="SM", help=f"default: {' '.join(ARCHES)}")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for file in source.names():
        for arch in options.arch or ARCHES:
            code, said = compile_kernels(file, arch)
            (options.out / cubin_name(file, arch)).write_bytes(code)
            for one in said:
                print(
                    f"{arch}  {one.kernel}: {one.registers} registers, {one.spill_bytes} bytes spilled"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
