"""The shape of a launch, for the few kernels whose result depends on it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """Blocks, threads of each, and the shared memory of each in bytes."""

    blocks: int
    threads: int
    shared: int
