"""`./mesh` in a fresh copy of the checkout: installed once, by one at a time, whatever interrupts it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.house.tree import ROOT, files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
INSTALLED_WITHIN_S = 240
NOBODY = 65534


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the checkout in a path with spaces, without what was made in it."""
    there = tmp_path / "a path with spaces"
    for file in files():
        copy = there / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    return there


def begin(clone: Path, *arguments: str, **more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [str(clone / "mesh"), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **{"env": {**os.environ, "MESH_PYTHON": sys.executable}, **more},
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=INSTALLED_WITHIN_S)
    return process.returncode, out, err


@pytest.mark.long
def test_two_at_once_install_once_and_a_change_of_the_lock_installs_again(clone: Path) -> None:
    first, second = begin(clone, "--help"), begin(clone, "--help")
    said = [end(first), end(second)]
    assert [code for code, _, _ in said] == [0, 0], said
    assert all(out.startswith("usage: mesh") for _, out, _ in said)
    assert sorted(err.count("installing") for _, _, err in said) == [0, 1]
    began = time.monotonic()
    assert end(begin(clone, "--help"))[2] == ""
    assert time.monotonic() - began < 2
    with (clone / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    assert "installing" in end(begin(clone, "--help"))[2]


@pytest.mark.long
def test_an_interrupted_install_is_begun_again(clone: Path) -> None:
    process = begin(clone, "--help")
    until = time.monotonic() + INSTALLED_WITHIN_S
    while not (clone / ".venv" / ".installing").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (clone / ".venv" / ".stamp").exists()
    code, out, err = end(begin(clone, "--help"))
    assert code == 0, err
    assert out.startswith("usage: mesh")


@pytest.mark.long
def test_an_ordinary_user_can_install_too(clone: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("the other tests of this file are run by an ordinary user already")
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    fits = python and subprocess.run(
        [python, "-c", "import sys, venv; sys.exit(sys.version_info < (3, 11))"], check=False
    )
    if not fits or fits.returncode != 0:
        pytest.skip("this machine has no Python 3.11 or later that an ordinary user may run")
    for folder, _, names in os.walk(tmp_path):
        for path in (folder, *(os.path.join(folder, name) for name in names)):  # noqa: PTH118
            os.chown(path, NOBODY, NOBODY)
    for folder in tmp_path.parents[: tmp_path.parts[::-1].index("pytest-of-root")]:
        folder.chmod(folder.stat().st_mode | 0o055)
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": "/usr/bin:/bin:/usr/local/bin"}
    code, _, err = end(begin(clone, "--help", env=environment, user=NOBODY, group=NOBODY))
    assert code == 0, err
