"""One mesh for all the tests that break nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh.harness import Mesh, running


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder: Path = tmp_path_factory.mktemp("mesh")
    with running(folder) as started:
        yield started
