"""A GPU's card and driver, and how long a start from nothing takes, in processes of their own."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from typing import Any

from gpuprobe import floors
from gpuprobe.bench import Bench
from gpuprobe.nvml import NoSensors, Nvml

CHILD_WITHIN_S = 90.0

_STEPS = """
import json, time
told, began = {}, time.perf_counter()
def step(name):
    global began
    now = time.perf_counter(); told[name] = round(now - began, 4); began = now
import numpy; step("import_numpy_s")
import cupy; step("import_cupy_s")
try:
    import pynvml; pynvml.nvmlInit()
    card = pynvml.nvmlDeviceGetHandleByIndex(DEVICE)
    used = lambda: pynvml.nvmlDeviceGetMemoryInfo(card).used
except Exception:
    used = lambda: 0
before = used(); began = time.perf_counter()
cupy.cuda.Device(DEVICE).use(); cupy.cuda.runtime.free(0); step("context_s")
told["context_bytes"] = used() - before; began = time.perf_counter()
from gpuprobe import source
from gpuprobe.on_cuda import CudaBackend
backend = CudaBackend.open(DEVICE); step("import_gpuprobe_s")
for file in source.names():
    names = [k.name for k in source.kernels().values() if k.file == file]
    backend._function(names[0]); step("compile_" + file + "_s")
cupy.cuda.get_cublas_handle(); step("cublas_handle_s")
told["with_cublas_bytes"] = used() - before
print(json.dumps(told))
"""


def card(bench: Bench) -> Any:
    """Return what the card, its driver and its counters say of themselves."""
    traits = bench.backend.traits
    profile = floors.profile(traits.model)
    told: dict[str, Any] = {
        "traits": asdict(traits),
        "profile": profile.name if profile else None,
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
    }
    if bench.backend.name == "cupy":
        cupy = bench.backend.arrays
        told["cupy"] = cupy.__version__
        told["cuda"] = int(cupy.cuda.runtime.runtimeGetVersion())
        told["driver_cuda"] = int(cupy.cuda.runtime.driverGetVersion())
    bench.tell(told)
    try:
        nvml = Nvml.open(traits.uuid)
    except NoSensors as fault:
        return told | {"nvml": str(fault)}
    counters = nvml.counters()
    return told | {
        "driver": nvml.driver(),
        "counters": len(counters),
        "counters_not_zero": {name: value for name, value in counters.items() if value},
        "counter_names": sorted(name for name in counters if not name.startswith("nvlink"))[:64],
        "sample": asdict(nvml.sample()),
        "power_limit_w": nvml.power_limit_w(),
        "link": nvml.link(),
        "recovery": nvml.recovery(),
        "processes": nvml.processes(),
        "xid_events_allowed": nvml.listen(),
        "counters_ms": _milliseconds(nvml.counters),
        "sample_ms": _milliseconds(nvml.sample),
    }


def start(bench: Bench) -> Any:
    """Return what a first start takes (nothing compiled before), a second, and a whole quick check."""
    if bench.backend.name != "cupy":
        return {"not_measured": "the host has no start of its own"}
    told: dict[str, Any] = {}
    device = bench.backend.device
    with tempfile.TemporaryDirectory(prefix="gpuprobe-cache-") as cache:
        environment = {**os.environ, "CUPY_CACHE_DIR": cache}
        script = _STEPS.replace("DEVICE", str(device))
        told["first"] = _child([sys.executable, "-c", script], environment)
        bench.tell(told)
        told["second"] = _child([sys.executable, "-c", script], environment)
        bench.tell(told)
        quick = [sys.executable, "-m", "gpuprobe", "--backend", "cupy", "--json"]
        told["quick_cold"] = _brief(_child([*quick, "--device", str(device)], environment))
    return told


def _milliseconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return round((time.perf_counter() - began) * 1_000, 2)


def _child(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    began = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - ourselves
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=CHILD_WITHIN_S,
        check=False,
    )
    wall_s = round(time.perf_counter() - began, 3)
    try:
        said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return {"wall_s": wall_s, "status": done.returncode, "stderr": done.stderr[-2_000:]}
    return {"wall_s": wall_s, **said}


def _brief(said: dict[str, Any]) -> dict[str, Any]:
    checks = said.pop("checks", [])
    said["took_by_check_ms"] = {one["name"]: one["took_ms"] for one in checks}
    said["not_passed"] = [one for one in checks if one["verdict"] != "pass"]
    return said
