"""The pass over a product in other shapes: rows at once, warps that share them, loads ahead, blocks.

What is the fastest on a card is written down here, so that the kernel's own choice can be judged.
"""

import statistics
from typing import Any

import numpy as np

from gpuprobe import source
from gpuprobe.bench import Bench
from gpuprobe.exact import STRIPE, Exact, Shape
from gpuprobe.golden import SEEDS
from gpuprobe.on_cuda import OPTIONS
from gpuprobe.product import KINDS

KERNEL = "gemm_verify_f32"
SHAPES = (
    *((4, 8, 1), (4, 4, 1), (4, 2, 1), (4, 3, 1), (4, 8, 0), (4, 4, 0), (4, 2, 0)),
    *((2, 8, 1), (2, 4, 1), (2, 4, 0), (1, 4, 1), (8, 8, 1)),
)
"""Rows at once, warps that share them, whether the next words are loaded ahead."""

BLOCKS = (2, 3, 4, 8, 16)
"""To each multiprocessor."""

IN_A_ROW = 10


def shapes(bench: Bench) -> Any:
    """Return GB/s by shape and blocks; ``right`` is whether the digest is golden then too."""
    if bench.backend.name != "cupy":
        return {"not_measured": "the host has no shapes"}
    exact = Exact(bench.backend, KINDS["bf16"], Shape(8192, 8192, 8192), SEEDS[0])
    exact.multiply()
    told: dict[str, Any] = {}
    for rows, sharers, ahead in SHAPES[: 2 if bench.smoke else None]:
        name = f"rows={rows} sharers={sharers} ahead={ahead}"
        try:
            told[name] = _one(bench, exact, (rows, sharers, ahead))
        except Exception as fault:  # noqa: BLE001 - one shape's trouble is not another's
            told[name] = {"error": f"{type(fault).__name__}: {fault}"}
        bench.tell(told)
    return told


def _one(bench: Bench, exact: Exact, shape: tuple[int, int, int]) -> dict[str, Any]:
    cupy, backend = bench.backend.arrays, bench.backend
    rows, sharers, ahead = shape
    head = f"#define ROWS {rows}u\n#define SHARERS {sharers}u\n#define AHEAD {ahead}\n"
    module = cupy.RawModule(code=head + source.text("gemm"), options=OPTIONS, backend="nvrtc")
    function = module.get_function(KERNEL)
    arguments = tuple(
        np.uint32(value) if isinstance(value, int) else value for value in exact.verify_arguments()
    )
    told: dict[str, Any] = {"registers": int(function.num_regs)}
    size = exact.shape.rows * exact.shape.cols * 4 * IN_A_ROW
    for each in BLOCKS:
        blocks = backend.traits.multiprocessors * each

        def several(blocks: int = blocks) -> None:
            for _ in range(IN_A_ROW):
                function((blocks,), (256,), arguments)

        several()
        ms = statistics.median(backend.timed(several) for _ in range(5))
        told[f"blocks={each}"] = round(size / ms * 1e-6)
    exact.begin_verifying()
    function((backend.traits.multiprocessors * BLOCKS[0],), (256,), arguments)
    told["right"] = exact.looks()[0].right
    told["stripes"] = exact.shape.rows // STRIPE
    return told
