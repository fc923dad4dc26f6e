"""``python -m gpuprobe.tune FILE``: how large a block's piece should be, and what slows copies for a while."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gpuprobe import link, source
from gpuprobe.on_cuda import OPTIONS, CudaBackend
from gpuprobe.wrongs import Log

GIB = 2**30
SLICE = 10 * GIB // 16
PIECES = (256, 1024, 4096, 16384, 65536, 131072)


def main() -> int:
    """Write what was found, part by part."""
    backend = CudaBackend.open(0)
    told: dict[str, Any] = {}

    def keep(name: str, work: Callable[[], Any]) -> None:
        began = time.monotonic()
        try:
            told[name] = work()
        except Exception as fault:  # noqa: BLE001 - the others go on
            told[name] = repr(fault)[:500]
        told[name + " s"] = round(time.monotonic() - began, 2)
        Path(sys.argv[1]).write_text(json.dumps(told))

    with backend.here():
        keep("after start", partial(series, backend, 100))
        keep("after idle", lambda: (time.sleep(0.5), series(backend, 100))[1])
        keep("after 75 GB came and went", lambda: (taken(backend, 75 * 10**9), series(backend, 100))[1])
        keep("after 32 GiB were filled", lambda: (taken(backend, 32 * GIB, 2), series(backend, 100))[1])
        keep(
            "after 32 GiB were filled ten times",
            lambda: (taken(backend, 32 * GIB, 10), series(backend, 100))[1],
        )
        keep("after products", lambda: (products(backend, 200), series(backend, 100))[1])
        keep("after many products", lambda: (products(backend, 2000), series(backend, 300))[1])
        for size in (8 * GIB, 128 * GIB):
            keep(f"pieces {size // GIB} GiB", partial(pieces, backend, size))
    return 0


def clock(backend: CudaBackend) -> int:
    nvml = link._nvml()  # noqa: SLF001
    handle = nvml.nvmlDeviceGetHandleByPciBusId(backend.traits.pci.encode())
    return int(nvml.nvmlDeviceGetClockInfo(handle, 1))


def series(backend: CudaBackend, count: int) -> Any:
    """Copies of 4 GiB one after another: GB/s of each, and the clock at some."""
    words = GIB
    here, there = backend.empty(words, np.uint32), backend.empty(words, np.uint32)
    backend.launch("fill_hash", here, 0, words // 4, 1, 0)
    rates, clocks = [], []
    for number in range(count):
        took = backend.timed(lambda: backend.move(there, here))
        rates.append(round(8 * words / took / 1e6))
        if number % 10 == 0:
            clocks.append(clock(backend))
    return {"gbps": rates, "clock": clocks}


def taken(backend: CudaBackend, size: int, fills: int = 0) -> None:
    words = backend.empty(size // 4, np.uint32)
    for number in range(fills):
        backend.launch("fill_hash", words, 0, size // 16, number, 0)
    backend.wait()


def products(backend: CudaBackend, count: int) -> None:
    cupy = backend.arrays
    a = cupy.random.standard_normal((8192, 8192), dtype=cupy.float32).astype(cupy.float16)
    for _ in range(count):
        cupy.matmul(a, a)
    backend.wait()
    del a
    cupy.get_default_memory_pool().free_all_blocks()


def pieces(backend: CudaBackend, size: int) -> Any:
    told: dict[str, Any] = {}
    vectors = size // 16
    words = backend.empty(vectors * 4, np.uint32)
    log = Log(backend)
    sms = backend.traits.multiprocessors
    u64, u32 = np.uint64, np.uint32
    for piece in PIECES:
        code = f"#define PIECE {piece}u\n" + source.text("memory")
        module = backend.arrays.RawModule(code=code, options=OPTIONS, backend="nvrtc")
        runs = {
            "fill_hash": (1, (u32(1), u32(0))),
            "check_hash": (1, (u32(1), u32(0), log.array, u32(0))),
            "turn_hash": (2, (u32(1), u32(0), u32(0), log.array, u32(0))),
            "turn_back": (2, (u32(1), u32(0xFFFFFFFF), u32(1), log.array, u32(0))),
        }
        for waves in (4, 8, 16, 32):
            for name, (times, rest) in runs.items():
                function = module.get_function(name.replace("_back", "_hash"))
                took = []
                for _ in range(1 if size > 64 * GIB else 4):
                    total = 0.0
                    for first in range(0, vectors, SLICE):
                        part = (words, u64(first), u64(min(SLICE, vectors - first)), *rest)
                        total += backend.timed(partial(function, (sms * waves,), (256,), part))
                    took.append(total)
                    if "turn" in name:
                        break
                told[f"{name} {piece} {waves}"] = round(times * size / statistics.median(took) / 1e6)
    told["wrong"] = log.read().count
    return told


if __name__ == "__main__":
    sys.exit(main())
