"""Servers for every room of tests, and what Hypothesis is told."""

import gc
import re
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["tests.servers_nats", "tests.servers_postgres"]

# A busy machine stretches the clock of one example in thousands; a test's own timeout bounds it.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

ROOM = Path(__file__).parent
ALL_SLOW = re.compile(r"^pytestmark = .*\bpytest\.mark\.slow\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not read a file of which the gate's step runs no test: half of a fast run was reading."""
    if collection_path.suffix != ".py" or collection_path.name in {"conftest.py", "__init__.py"}:
        return None
    marks = config.getoption("markexpr")
    if marks == "not slow and not long":
        return ALL_SLOW.search(collection_path.read_text()) is not None or None
    if marks == "slow and not long":
        return "pytest.mark.slow" not in collection_path.read_text() or None
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what starts a whole mesh: it takes longest, and would be waited for alone at the end."""
    items.sort(key=lambda item: "mesh" not in item.path.relative_to(ROOM).parts)


def pytest_collection_finish() -> None:
    """Leave all that was read out of every later look for garbage: it stays to the end."""
    gc.collect()
    gc.freeze()
