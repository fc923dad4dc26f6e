"""``python -m gpuprobe.tune FILE``: how fast each part of all the memory is, and which launch is fastest."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gpuprobe.on_cuda import CudaBackend
from gpuprobe.wrongs import Log

GIB = 2**30


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
        keep("shapes", partial(shapes, backend))
        keep("parts", partial(parts, backend))
    return 0


def shapes(backend: CudaBackend) -> Any:
    """Return GB/s by kernel and blocks on a multiprocessor."""
    vectors = 8 * GIB // 16
    here, there = (backend.empty(vectors * 4, np.uint32) for _ in range(2))
    log, sms = Log(backend), backend.traits.multiprocessors
    runs: dict[str, tuple[int, tuple[Any, ...]]] = {
        "fill_hash": (1, (here, 0, vectors, 1, 0)),
        "check_hash": (1, (here, 0, vectors, 1, 0, log.array, 0)),
        "copy_words": (2, (there, here, vectors)),
        "turn_hash": (2, (here, 0, vectors, 1, 0, 0, log.array, 0)),
        "turn_hash back": (2, (here, 0, vectors, 1, 0xFFFFFFFF, 1, log.array, 0)),
    }
    told: dict[str, Any] = {}
    for waves in (4, 2, 3, 4, 6, 8, 16, 32):
        for name, (times, arguments) in runs.items():
            work = partial(backend.launch, name.split()[0], *arguments, blocks=sms * waves)
            took = [backend.timed(work) for _ in range(1 if "turn" in name else 5)]
            told[f"{name} {waves}"] = round(times * 16 * vectors / statistics.median(took) / 1e6)
    told["wrong"] = log.read().count
    return told


def parts(backend: CudaBackend) -> Any:
    """Return GB/s of each GiB of all the memory, by kernel; the allocation's milliseconds too."""
    free = backend.free_bytes()
    told: dict[str, Any] = {"free": free}
    began = time.perf_counter()
    words = backend.empty(int(free * 0.99) // 4096 * 1024, np.uint32)
    told["taken_ms"] = round((time.perf_counter() - began) * 1_000, 1)
    log, total, each = Log(backend), int(words.size) // 4, GIB // 16
    for name, times, rest in (
        ("fill_hash", 1, (1, 0)),
        ("fill_hash again", 1, (1, 0)),
        ("check_hash", 1, (1, 0, log.array, 0)),
        ("turn_hash", 2, (1, 0, 0, log.array, 0)),
        ("turn_hash back", 2, (1, 0xFFFFFFFF, 1, log.array, 0)),
    ):
        rates = []
        for first in range(0, total, each):
            count = min(each, total - first)
            work = partial(backend.launch, name.split()[0], words, first, count, *rest)
            rates.append(round(times * 16 * count / backend.timed(work) / 1e6))
        told[name] = rates
    told["wrong"] = log.read().count
    began = time.perf_counter()
    del words, work
    backend.wait()
    told["let_go_ms"] = round((time.perf_counter() - began) * 1_000, 1)
    began = time.perf_counter()
    again = backend.empty(int(free * 0.99) // 4096 * 1024, np.uint32)
    told["taken_again_ms"] = round((time.perf_counter() - began) * 1_000, 1)
    del again
    return told


if __name__ == "__main__":
    sys.exit(main())
