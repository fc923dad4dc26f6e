"""Meshes for all the tests that break nothing: one as it comes, one whose signals go to a collector."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh.harness import Mesh, running
from tests.mesh.otlp_receiver import OtlpReceiver, otlp_receiver


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder: Path = tmp_path_factory.mktemp("mesh")
    with running(folder) as started:
        yield started


@pytest.fixture(scope="session")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mesh, OtlpReceiver]]:
    """A mesh, and the collector for tests that it exports everything to."""
    folder: Path = tmp_path_factory.mktemp("traced")
    with otlp_receiver() as receiver:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        with running(folder, environment=environment) as started:
            yield started, receiver
