"""The checkout as the house's own tests see it: what belongs to it, and nothing that was made in it."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = frozenset(
    {".git", ".venv", ".mesh", "__pycache__", "node_modules", "dist", "build", "uv.lock"}
)
OURS_THOUGH_HIDDEN = frozenset({".ci", ".gitignore", ".dockerignore", ".github"})


def files(folder: Path = ROOT) -> Iterator[Path]:
    """Yield every file of the checkout."""
    for path in sorted(folder.iterdir()):
        if path.name in NOT_OURS or (path.name.startswith(".") and path.name not in OURS_THOUGH_HIDDEN):
            continue
        if path.name.endswith((".egg-info", ".pyc")):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from files(path)
        elif path.is_file():
            yield path


def python_files() -> list[Path]:
    """Return every Python file of the checkout."""
    return [path for path in files() if path.suffix == ".py"]


def folders(folder: Path) -> set[str]:
    """Return the names of the folders in ``folder`` that hold a file of the checkout."""
    return {
        path.name
        for path in folder.iterdir()
        if path.is_dir() and path.name not in NOT_OURS and not path.name.startswith(".")
        if next(files(path), None) is not None
    }
