"""``python -m node_agent.doubles.build FOLDER``: compile the double of NVML; needs gcc and NVIDIA's header."""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml.c")
NAME = "libnvidia-ml.so.1"
WITHIN_S = 60


class CannotBuild(Exception):
    """The double cannot be built here; the message says what is missing."""


def build(folder: Path, *, older: Sequence[str] = ()) -> Path:
    """Compile the double into ``folder`` and return its path; ``older`` names functions that it lacks.

    Raises ``CannotBuild``.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise CannotBuild("there is no C compiler: install gcc")
    made = folder / NAME
    flags = ("-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", f"-Wl,-soname,{NAME}")
    done = subprocess.run(  # noqa: S603 - our own words
        [
            compiler,
            *flags,
            *(f"-D{name}=older_{name}" for name in older),
            "-I",
            str(header()),
            "-o",
            str(made),
            str(SOURCE),
        ],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    if done.returncode != 0:
        raise CannotBuild(f"the compiler refuses it: {done.stderr.strip()[-1_000:]}")
    return made


def header() -> Path:
    """Return the folder of ``nvml.h``, of the wheel ``nvidia-nvml-dev``. Raises ``CannotBuild``."""
    found = importlib.util.find_spec("nvidia")
    for place in found.submodule_search_locations if found and found.submodule_search_locations else ():
        for folder in sorted(Path(place).glob("*/include"), reverse=True):
            if (folder / "nvml.h").exists():
                return folder
    raise CannotBuild("there is no nvml.h: install the wheel nvidia-nvml-dev")


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{build(Path(sys.argv[1]))}\n")
    except CannotBuild as fault:
        raise SystemExit(str(fault)) from None
