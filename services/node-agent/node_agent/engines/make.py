"""``python -m node_agent.engines.make FOLDER MODEL…``: builtin models, each made once.

It runs in a process of its own, so that the agent never carries NumPy.
"""

import argparse
import fcntl
import os
import sys
from pathlib import Path

FILES = {"tiny": "tiny-1.gguf", "all-minilm-l6-v2": "all-minilm-l6-v2-1.gguf"}
"""File of each builtin model; the number rises when its recipe changes."""

EXIT_UNUSABLE = 3


def make(folder: Path, model: str) -> Path:
    """Return the model's file, made if it is not there; several may ask at once."""
    from node_agent.engines import minilm, tiny_gguf  # noqa: PLC0415 - slow, and often not needed

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILES[model]
    with (folder / f".{model}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            partial = path.with_suffix(".partial")
            (tiny_gguf if model == "tiny" else minilm).make(partial)
            with partial.open("rb") as written:
                os.fsync(written.fileno())
            partial.rename(path)
    return path


def main(arguments: list[str] | None = None) -> int:
    """Make what is named; print a path a line."""
    parser = argparse.ArgumentParser(prog="python -m node_agent.engines.make", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="+", choices=sorted(FILES), metavar="MODEL")
    options = parser.parse_args(arguments)
    for model in options.models:
        path = options.folder / FILES[model]
        if not path.exists():
            from node_agent.engines.minilm import WeightsUnusable  # noqa: PLC0415 - slow

            try:
                make(options.folder, model)
            except (WeightsUnusable, OSError) as fault:
                sys.stderr.write(f"{fault}\n")
                return EXIT_UNUSABLE
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
