"""The devices on which the health kernels are tried: the host's two, and a GPU where there is one."""

import pytest
from gpuprobe.backend import Backend, NoDevice, pick


def _there(name: str) -> bool:
    try:
        pick(0, name)
    except NoDevice:
        return False
    return True


BACKENDS = ("numpy", "host", *(("cupy",) if _there("cupy") else ()))


def opened(name: str) -> Backend:
    """Return a device; without it the test is skipped, and says why."""
    try:
        return pick(0, name)
    except NoDevice as fault:
        pytest.skip(str(fault))
