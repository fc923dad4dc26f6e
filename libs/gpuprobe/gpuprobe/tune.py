"""``python -m gpuprobe.tune FILE``: launch shapes and numbers of loads under way, compared on a GPU."""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from gpuprobe import source
from gpuprobe.on_cuda import OPTIONS, CudaBackend
from gpuprobe.wrongs import Log

BYTES = 8 * 2**30
WITHIN_S = 25.0

EXTRA = """
template <int U, class Via> DEV void copy_by(uint4 *to, const uint4 *from, u64 count) {
    u64 step = threads(), v = place();
    for (; v + (U - 1) * step < count; v += U * step) {
        uint4 r[U];
        #pragma unroll
        for (int k = 0; k < U; ++k) r[k] = Via::load(from + v + k * step);
        #pragma unroll
        for (int k = 0; k < U; ++k) Via::store(to + v + k * step, r[k]);
    }
    for (; v < count; v += step) Via::store(to + v, Via::load(from + v));
}
// Each block has a piece of its own, one after another.
template <int U, class Via> DEV void copy_near(uint4 *to, const uint4 *from, u64 count) {
    u64 tile = (u64)blockDim.x * U;
    for (u64 at = blockIdx.x * tile; at + tile <= count; at += gridDim.x * tile) {
        uint4 r[U];
        #pragma unroll
        for (int k = 0; k < U; ++k) r[k] = Via::load(from + at + k * blockDim.x + threadIdx.x);
        #pragma unroll
        for (int k = 0; k < U; ++k) Via::store(to + at + k * blockDim.x + threadIdx.x, r[k]);
    }
}
struct Plain {
    DEV static uint4 load(const uint4 *at) { return *at; }
    DEV static void store(uint4 *at, uint4 value) { *at = value; }
};
template <int U, class Via> DEV void turn_by(uint4 *words, u64 count, u32 key, u64 *log) {
    Wrong wrong = nothing_wrong();
    Hashed pattern = {key, 0};
    u64 step = threads(), v = place();
    for (; v + (U - 1) * step < count; v += U * step) {
        uint4 r[U];
        #pragma unroll
        for (int k = 0; k < U; ++k) r[k] = Via::load(words + v + k * step);
        #pragma unroll
        for (int k = 0; k < U; ++k) {
            uint4 want = pattern.at(v + k * step);
            compare(&wrong, log, v + k * step, want, r[k], 0);
            Via::store(words + v + k * step, want);
        }
    }
    tell(&wrong, log);
}
template <int U, class Via> DEV void check_near(const uint4 *words, u64 count, u32 key, u64 *log) {
    Wrong wrong = nothing_wrong();
    Hashed pattern = {key, 0};
    u64 tile = (u64)blockDim.x * U;
    for (u64 at = blockIdx.x * tile; at + tile <= count; at += gridDim.x * tile) {
        uint4 r[U];
        u64 v = at + threadIdx.x;
        #pragma unroll
        for (int k = 0; k < U; ++k) r[k] = Via::load(words + v + k * blockDim.x);
        #pragma unroll
        for (int k = 0; k < U; ++k)
            compare(&wrong, log, v + k * blockDim.x, pattern.at(v + k * blockDim.x), r[k], 0);
    }
    tell(&wrong, log);
}
"""
_ONE = """
extern "C" __global__ void __launch_bounds__(256) {name}({declared}) {{ {body}; }}
"""


def main() -> int:
    """Write GB/s by kernel and blocks on each multiprocessor."""
    backend = CudaBackend.open(0)
    until = time.monotonic() + WITHIN_S
    told: dict[str, Any] = {}
    with backend.here():
        words = BYTES // 4
        vectors = words // 4
        here, there = backend.empty(words, np.uint32), backend.empty(words, np.uint32)
        log, digest = Log(backend), backend.put(np.zeros(1, np.uint32))
        sms = backend.traits.multiprocessors
        u64, u32 = np.uint64, np.uint32
        variants: dict[str, tuple[int, str, str, tuple[Any, ...]]] = {}
        for via in ("Once", "Plain", "InL2"):
            for deep in (1, 2, 4, 8):
                c = "uint4 *to, const uint4 *from, u64 count"
                variants[f"copy_by_{deep}_{via}"] = (
                    2,
                    c,
                    f"copy_by<{deep}, {via}>(to, from, count)",
                    (there, here, u64(vectors)),
                )
                if deep > 1:
                    variants[f"copy_near_{deep}_{via}"] = (
                        2,
                        c,
                        f"copy_near<{deep}, {via}>(to, from, count)",
                        (there, here, u64(vectors)),
                    )
                    h = "const uint4 *words, u64 count, u32 key, u64 *log"
                    variants[f"check_near_{deep}_{via}"] = (
                        1,
                        h,
                        f"check_near<{deep}, {via}>(words, count, key, log)",
                        (here, u64(vectors), u32(1), log.array),
                    )
                t = "uint4 *words, u64 count, u32 key, u64 *log"
                variants[f"turn_by_{deep}_{via}"] = (
                    2,
                    t,
                    f"turn_by<{deep}, {via}>(words, count, key, log)",
                    (there, u64(vectors), u32(1), log.array),
                )
        code = (
            source.text("memory")
            + EXTRA
            + "".join(_ONE.format(name=n, declared=v[1], body=v[2]) for n, v in variants.items())
        )
        module = backend.arrays.RawModule(code=code, options=OPTIONS, backend="nvrtc")
        ours: dict[str, tuple[int, tuple[Any, ...]]] = {
            "fill_hash": (1, (here, 0, vectors, 1, 0)),
            "check_hash": (1, (here, 0, vectors, 1, 0, log.array, 0)),
            "copy_words": (2, (there, here, vectors)),
            "read_words": (1, (here, vectors, digest)),
        }
        backend.prepare(*ours)
        backend.launch("fill_hash", here, 0, vectors, 1, 0)
        for _ in range(3):
            took = [backend.timed(lambda: backend.move(there, here)) for _ in range(5)]
        told["driver"] = round(2 * BYTES / statistics.median(took) / 1e6)
        for waves in (4, 8, 16, 32, 2, 64):
            for name, (times, arguments) in ours.items():
                took = [
                    backend.timed(
                        lambda n=name, a=arguments, w=waves: backend.launch(n, *a, blocks=sms * w)
                    )
                    for _ in range(4)
                ]
                told.setdefault(name, {})[waves] = round(
                    times * BYTES / statistics.median(took[1:]) / 1e6
                )
            for name, (times, _, _, passed) in variants.items():
                if time.monotonic() > until:
                    break
                try:
                    function = module.get_function(name)
                    took = [
                        backend.timed(lambda f=function, p=passed, w=waves: f((sms * w,), (256,), p))
                        for _ in range(4)
                    ]
                    told.setdefault(name, {})[waves] = round(
                        times * BYTES / statistics.median(took[1:]) / 1e6
                    )
                    told[name]["registers"] = function.num_regs
                except Exception as fault:  # noqa: BLE001
                    told[name] = {"error": repr(fault)[:300]}
            Path(sys.argv[1]).write_text(json.dumps(told, indent=1))
    told["wrong"] = log.read().count
    Path(sys.argv[1]).write_text(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
