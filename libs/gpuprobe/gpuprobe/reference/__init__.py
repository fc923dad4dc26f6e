"""The oracle: what each kernel must compute, in NumPy, one function a kernel of the same name.

Each takes the shape of the launch, then what the kernel takes; memory is changed in place.
"""

from collections.abc import Callable
from types import ModuleType

from gpuprobe.reference import gemm, launch, memory, sram, stream, strike, sweep
from gpuprobe.reference.grid import Grid

__all__ = ["REFERENCES", "Grid"]

MODULES: tuple[ModuleType, ...] = (gemm, launch, memory, sram, stream, strike, sweep)


def _public(module: ModuleType) -> dict[str, Callable[..., None]]:
    return {
        name: thing
        for name, thing in vars(module).items()
        if callable(thing) and thing.__module__ == module.__name__ and not name.startswith("_")
    }


REFERENCES: dict[str, Callable[..., None]] = {
    name: function for module in MODULES for name, function in _public(module).items()
}
"""Every reference by its kernel's name."""
