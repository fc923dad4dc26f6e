"""Rates of a GPU: what its memory and its multipliers can do at best, and what the checks reach of it."""

import statistics
from functools import partial
from typing import Any

import numpy as np

from gpuprobe import pattern
from gpuprobe.bench import Bench, spread
from gpuprobe.exact import Exact, Shape
from gpuprobe.gemm_check import PROBE, fitting
from gpuprobe.golden import SEEDS
from gpuprobe.heat import Heat
from gpuprobe.probe import Setting
from gpuprobe.product import KINDS, Kind
from gpuprobe.slab import MOVES
from gpuprobe.wrongs import Log

GIB = 2**30
WARM_MS = 300.0
IN_A_ROW = 10
"""Passes that are timed together: one alone is as short as what starts it."""
HOT = 60
"""Products in a row, about a tenth of a second: what a card needs to reach its power limit."""

CEILING_BYTES = 8 * GIB
SMALL_BYTES = 2**20
LARGE = Shape(8192, 8192, 8192)
SMALL = Shape(128, 256, 128)


def _on_gpu(bench: Bench) -> bool:
    return bench.backend.name == "cupy"


def _bytes(bench: Bench) -> int:
    return CEILING_BYTES if _on_gpu(bench) else SMALL_BYTES


def _warm(bench: Bench, work: Any) -> None:
    spent = 0.0
    while spent < (WARM_MS if _on_gpu(bench) else 0.0):
        spent += bench.backend.timed(work)


def ceilings(bench: Bench) -> Any:
    """Return GB/s of the driver's copy, read and written, and TFLOP/s of products of random numbers."""
    backend = bench.backend
    told: dict[str, Any] = {"driver_copy_gbps": _copies(bench)}
    bench.tell(told)
    heat = Heat(backend, KINDS["bf16"], LARGE if _on_gpu(bench) else SMALL, 1)
    _warm(bench, heat.multiply)
    ms = [backend.timed(heat.multiply) for _ in range(bench.times(60))]
    told["bf16_random_tflops"] = spread([heat.operations / m * 1e-9 for m in ms])
    heat.multiply()
    told["bf16_random_strays"] = heat.strays()
    return told


def _copies(bench: Bench) -> dict[str, float]:
    backend, words = bench.backend, _bytes(bench) // 4
    here = backend.empty(words, np.uint32)
    there = backend.empty(words, np.uint32)
    backend.launch("fill_hash", here, 0, words // 4, pattern.key(1, 0), 0)
    ms = [backend.timed(lambda: backend.move(there, here)) for _ in range(bench.times(20) + 1)]
    return spread([words * 8 / m * 1e-6 for m in ms[1:]])


def products(bench: Bench) -> Any:
    """Return, by kind: is each digest golden, the speeds plain and verified, the pass's own GB/s."""
    told: dict[str, Any] = {}
    for name, kind in KINDS.items():
        try:
            told[name] = _kind(bench, kind)
        except Exception as fault:  # noqa: BLE001 - one kind's trouble is not another's
            told[name] = {"error": f"{type(fault).__name__}: {fault}"}
        bench.tell(told)
    return told


def _kind(bench: Bench, kind: Kind) -> dict[str, Any]:
    backend = bench.backend
    setting = Setting(backend=backend, seed=0)
    wanted = PROBE.sizes["standard"].shape(kind)
    shape = fitting(setting, kind, wanted) if _on_gpu(bench) else Shape(128, 256, 128)
    told: dict[str, Any] = {"shape": [shape.rows, shape.inner, shape.cols], "golden": {}}
    for seed in SEEDS:
        exact = Exact(backend, kind, shape, seed)
        exact.begin_verifying()
        exact.multiply()
        exact.verify()
        look = exact.looks()[0]
        told["golden"][seed] = look.golden
        told["rows_wrong"] = told.get("rows_wrong", 0) + len(look.rows)
        if look.rows:
            told["wrong"] = exact.wrong_elements(look.rows)[:8]
            told["operands"] = exact.operand_errors()

    def verified() -> None:
        exact.multiply()
        exact.verify()

    _warm(bench, verified)
    # In turn: a card at its power limit breathes, and both are to see the same of it.
    taken = [(backend.timed(exact.multiply), backend.timed(verified)) for _ in range(bench.times(100))]
    plain, both = [one for one, _ in taken], [other for _, other in taken]

    def passes() -> None:
        for _ in range(IN_A_ROW):
            exact.verify()

    alone = bench.median_ms(passes, 10) / IN_A_ROW
    size = exact.products[0].nbytes
    told["plain_tflops"] = spread([exact.operations / m * 1e-9 for m in plain])
    told["verified_tflops"] = spread([exact.operations / m * 1e-9 for m in both])
    told["plain_ms"], told["verified_ms"] = spread(plain)["p50"], spread(both)["p50"]
    told["verify_pass_ms"], told["verify_pass_gbps"] = round(alone, 4), round(size / alone * 1e-6, 1)
    told["right_after_products"] = _after_products(bench, exact, passes)
    told["expect_ms"] = round(bench.median_ms(exact.expect, 3), 4)
    told["fill_ms"] = round(bench.median_ms(exact.fill, 3), 4)
    return told


def _after_products(bench: Bench, exact: Exact, passes: Any) -> dict[str, float]:
    """Return GB/s of the pass and of the driver's copy, in turn, each while products still hold the clock down."""
    backend, product = bench.backend, exact.products[0]
    other = backend.empty(len(product), product.dtype)

    def copies() -> None:
        for _ in range(IN_A_ROW):
            backend.move(other, product)

    taken: dict[Any, list[float]] = {passes: [], copies: []}
    for work in (*taken,) * bench.times(10):
        for _ in range(bench.times(HOT)):
            exact.multiply()
        taken[work].append(backend.timed(work))
    one, copy = (
        product.nbytes * IN_A_ROW * moved / statistics.median(taken[work]) * 1e-6
        for work, moved in ((passes, 1), (copies, 2))
    )
    return {"pass_gbps": round(one, 1), "copy_gbps": round(copy, 1), "of_copy": round(one / copy, 3)}


def kernels(bench: Bench) -> Any:
    """Return GB/s, read and written, of each kernel that passes over memory."""
    backend = bench.backend
    words = _bytes(bench) // 4
    vectors = words // pattern.WORDS
    here = backend.empty(words, np.uint32)
    there = backend.empty(words, np.uint32)
    log, key = Log(backend), pattern.key(1, 0)
    digest = backend.put(np.zeros(1, np.uint32))
    once, twice = words * 4, words * 8
    nearly = int(once * MOVES["disturb"])
    work: dict[str, tuple[int, tuple[Any, ...]]] = {
        "fill_hash": (once, (here, 0, vectors, key, 0)),
        "check_hash": (once, (here, 0, vectors, key, 0, log.array, 0)),
        "fill_modulo": (once, (here, 0, vectors, key, 3)),
        "check_modulo": (once, (here, 0, vectors, key, 3, log.array, 0)),
        "disturb_modulo": (nearly, (here, 0, vectors, key, 3)),
        "fill_walking": (once, (here, 0, vectors, 5, 0)),
        "check_walking": (once, (here, 0, vectors, 5, 0, log.array, 0)),
        "copy_words": (twice, (there, here, vectors)),
        "read_words": (once, (here, vectors, digest)),
        "write_words": (once, (there, vectors, 7)),
    }
    told: dict[str, Any] = {}
    for name, (moved, arguments) in work.items():
        try:
            # Turned words are the inverse: read again as they were, all would be wrong.
            ms = bench.median_ms(partial(backend.launch, name, *arguments), 10)
            told[name] = {"gbps": round(moved / ms * 1e-6, 1), "ms": round(ms, 4)}
        except Exception as fault:  # noqa: BLE001 - one kernel's trouble is not another's
            told[name] = {"error": f"{type(fault).__name__}: {fault}"}
        bench.tell(told)
    wrong = log.read().count
    backend.launch("fill_hash", *work["fill_hash"][1])
    turned = []
    for flip in (0, pattern.INVERSE) * bench.times(5):
        turn = partial(backend.launch, "turn_hash", here, 0, vectors, key, flip, 0, log.array, 0)
        turned.append(backend.timed(turn))
    gbps = round(twice / statistics.median(turned) * 1e-6, 1)
    return told | {"turn_hash": {"gbps": gbps}, "wrong_words": log.read().count, "wrong_before": wrong}
