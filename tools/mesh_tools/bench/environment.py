"""Environments for what we only measure against: made from a lock of their own, used by nothing else."""

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path


def folder() -> Path:
    """Return where bench-only environments lie: in the user's cache, or ``MESH_BENCH_DIR``."""
    chosen = os.environ.get("MESH_BENCH_DIR")
    if chosen:
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "compute-mesh" / "bench"


def python(name: str) -> Path:
    """Return the interpreter of environment ``name``, made from ``<name>.lock`` the first time.

    Raises ``SystemExit`` with one line where it cannot be made.
    """
    lock = Path(__file__).with_name(f"{name}.lock")
    mark = sha256(lock.read_bytes()).hexdigest()[:12]
    target = folder() / f"{name}-{mark}-py{sys.version_info.major}{sys.version_info.minor}"
    interpreter = target / "bin" / "python"
    whole = target / "whole"
    if whole.exists():
        return interpreter
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        message = "mesh bench: uv is missing; run ./mesh once to install it"
        raise SystemExit(message)
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"installing {name} into an environment of its own ...", file=sys.stderr)
    steps = [
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(target)],
        [
            *(uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes"),
            *("--python", str(interpreter), "-r", str(lock)),
        ],
    ]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            message = f"mesh bench: {name} could not be installed: {done.stderr.strip()[-500:]}"
            raise SystemExit(message)
    whole.touch()
    return interpreter
