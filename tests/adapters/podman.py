"""Containers for tests, where podman is installed and runs any: an image of one program, made here."""

import shutil
import subprocess
from collections.abc import Iterator

import pytest

PODMAN_MORE = ("--runtime", "runc", "--ulimit", "nofile=1000:1000", "--ulimit", "nproc=1000:1000")
"""What podman needs where a machine is itself a container: no limits above its own."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Make an image of one program, with podman, where that and the program are there and containers run."""
    podman, busybox = shutil.which("podman"), shutil.which("busybox")
    if podman is None or busybox is None:
        pytest.skip("podman and busybox are not installed here")
    root = tmp_path_factory.mktemp("root") / "image"
    (root / "bin").mkdir(parents=True)
    (root / "tmp").mkdir()
    shutil.copy2(busybox, root / "bin" / "busybox")
    (root / "bin" / "sh").symlink_to("busybox")
    name = "localhost/mesh-test:1"
    tar = subprocess.run(["tar", "-C", str(root), "-c", "."], capture_output=True, check=True).stdout
    subprocess.run([podman, "import", "-", name], input=tar, capture_output=True, check=True)
    tried = [podman, "run", "--rm", "--network=host", *PODMAN_MORE, name, "/bin/sh", "-c", "exit 0"]
    ran = subprocess.run(tried, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        pytest.skip(f"podman runs no containers here: {ran.stderr.strip()[-200:]}")
    yield name
    subprocess.run([podman, "rmi", "--force", name], capture_output=True, check=False)


def containers() -> str:
    """Return the containers that are there, running or not."""
    ps = ["podman", "ps", "--all", "--quiet"]
    return subprocess.run(ps, capture_output=True, text=True, check=True).stdout
