"""The launch of ``launch.cu``."""

from typing import Any

from gpuprobe.reference.grid import Grid


def count_launch(_: Grid, counter: Any) -> None:
    """Count this launch."""
    counter[0] += 1
