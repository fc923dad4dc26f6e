"""The kernels' CUDA sources, and what each kernel takes.

One source serves three ways to run it: NVRTC compiles it for a GPU, an ordinary compiler for the
host, and the names and types of a kernel's arguments tell both how to call it.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Type = Literal["pointer", "u32", "i32", "u64", "i64", "f32", "f64"]

_SCALARS: dict[str, Type] = {
    "u32": "u32",
    "i32": "i32",
    "u64": "u64",
    "i64": "i64",
    "float": "f32",
    "double": "f64",
}
_KERNEL = re.compile(
    r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(([^)]*)\)', re.DOTALL
)
DEVICE_ONLY = "#ifdef __CUDACC_RTC__"
"""What stands behind this line, up to its ``#else`` or ``#endif``, is compiled for a GPU only."""


@dataclass(frozen=True)
class Argument:
    """One argument of a kernel; ``declared`` is its C type."""

    name: str
    kind: Type
    declared: str


@dataclass(frozen=True)
class Kernel:
    """A kernel of one of the files; ``device_only`` ones cannot be compiled for the host."""

    name: str
    file: str
    arguments: tuple[Argument, ...]
    device_only: bool


@cache
def names() -> tuple[str, ...]:
    """Return the files' names without their ending, in order."""
    folder = files("gpuprobe") / "kernels"
    return tuple(sorted(f.name.removesuffix(".cu") for f in folder.iterdir() if f.name.endswith(".cu")))


@cache
def text(file: str) -> str:
    """Return what is compiled: what all kernels share, then the file itself."""
    folder = files("gpuprobe") / "kernels"
    return (folder / "common.h").read_text() + (folder / f"{file}.cu").read_text()


def digest(file: str) -> str:
    """Return what names this state of a source."""
    return hashlib.sha256(text(file).encode()).hexdigest()[:16]


@cache
def kernels() -> dict[str, Kernel]:
    """Return every kernel by its name."""
    found: dict[str, Kernel] = {}
    for file in names():
        whole = text(file)
        for match in _KERNEL.finditer(whole):
            arguments = tuple(_argument(part) for part in match[2].split(",") if part.strip())
            assert match[1] not in found, f"two kernels are called {match[1]}"
            guarded = _guarded(whole[: match.start()])
            found[match[1]] = Kernel(match[1], file, arguments, guarded)
    return found


def _argument(declared: str) -> Argument:
    words = declared.replace("*", " * ").split()
    kind: Type = "pointer" if "*" in words else _SCALARS[words[-2]]
    return Argument(words[-1], kind, " ".join(words[:-1]))


def _guarded(before: str) -> bool:
    """Tell whether a line after ``before`` is compiled for a GPU only."""
    open_: list[bool] = []
    for line in before.splitlines():
        word = line.strip()
        if word.startswith("#if"):
            open_.append(word == DEVICE_ONLY)
        elif word.startswith("#else"):
            open_[-1] = False
        elif word.startswith("#endif"):
            open_.pop()
    return any(open_)
