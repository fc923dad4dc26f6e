"""Makes the virtual environment from the lock: ``bootstrap.py <checkout> <stamp> <command>``.

Run by ``./mesh`` with a bare interpreter, so it imports the standard library only. Two at once
wait for each other; what an interrupted one left is thrown away; the stamp is written last.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from mesh_tools import preflight

MEMBERS = ("contracts", "libs/*", "services/*", "tools")
SAID_AT_MOST = 2_000


class BootstrapFailed(Exception):
    """The environment could not be made; the message says what to do."""


def block_of(name: str, lock: str) -> str:
    """Return the lines of one package in the lock: its pin and its hashes."""
    taken: list[str] = []
    for line in lock.splitlines():
        if taken and not line.startswith(" "):
            break
        if taken or line.startswith(f"{name}=="):
            taken.append(line)
    if not taken:
        raise BootstrapFailed(f"requirements.lock does not pin {name}: run `mesh lock`")
    return "\n".join(taken) + "\n"


def run(command: list[str], environment: dict[str, str] | None = None) -> None:
    """Run a step in silence. Raises ``BootstrapFailed`` with the end of what it said."""
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr + done.stdout).strip()[-SAID_AT_MOST:]
        step = " ".join(Path(part).name for part in command[:4])
        raise BootstrapFailed(f"installing failed at `{step}` (run ./mesh again to try again):\n{said}")


def installer(venv: Path, lock: str) -> str:
    """Return the path of a uv, with an empty environment in ``venv``."""
    found = shutil.which("uv")
    if found:
        run(
            [
                found,
                "venv",
                "--quiet",
                "--allow-existing",
                "--no-project",
                "--python",
                sys.executable,
                str(venv),
            ]
        )
        return found
    try:
        run([sys.executable, "-m", "venv", str(venv)])
    except BootstrapFailed as fault:
        raise BootstrapFailed(
            f"Python's venv does not work here (Debian: apt install python3-venv)\n{fault}"
        ) from fault
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder) / "uv.txt"
        pins.write_text(block_of("uv", lock))
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        run([*pip, "--disable-pip-version-check", "--no-deps", "--require-hashes", "-r", str(pins)])
    return str(venv / "bin" / "uv")


def index_of_pip(venv: Path) -> dict[str, str]:
    """Return the package index that pip is told to use, for uv, which does not read pip's files."""
    if any(name in os.environ for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX")):
        return {}
    url = os.environ.get("PIP_INDEX_URL", "")
    for python in (str(venv / "bin" / "python"), sys.executable):
        if url:
            break
        asked = [python, "-m", "pip", "config", "get", "global.index-url"]
        url = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return {"UV_DEFAULT_INDEX": url} if url else {}


def install(root: Path, venv: Path) -> None:
    """Fill ``venv`` with exactly the lock, then the members of the workspace in place."""
    lock = (root / "requirements.lock").read_text()
    half_done = venv / ".installing"
    # What somebody else made (it has no stamp either) is filled, never thrown away.
    if half_done.exists() or not (venv / "bin" / "python").exists():
        shutil.rmtree(venv, ignore_errors=True)
        venv.mkdir()
        half_done.touch()
        uv = installer(venv, lock)
    else:
        half_done.touch()
        own = venv / "bin" / "uv"
        uv = shutil.which("uv") or (str(own) if own.exists() else installer(venv, lock))
    (venv / ".stamp").unlink(missing_ok=True)
    environment = {**os.environ, **index_of_pip(venv), "VIRTUAL_ENV": str(venv)}
    pip = [uv, "pip", "install", "--quiet", "--python", str(venv / "bin" / "python"), "--no-deps"]
    locked = [*pip, "--require-hashes", "-r", str(root / "requirements.lock")]
    try:
        run(locked, environment)
    except BootstrapFailed:
        # Links into the cache are refused on some machines; a second try may also heal the network.
        environment["UV_LINK_MODE"] = "copy"
        run(locked, environment)
    members = sorted(
        file.parent for member in MEMBERS for file in root.glob(f"{member}/pyproject.toml")
    )
    run([*pip, *(part for member in members for part in ("--editable", str(member)))], environment)
    half_done.unlink()


def main(arguments: list[str]) -> int:
    """Make the environment of a checkout; return the exit code."""
    root, stamp, command = Path(arguments[0]), arguments[1], arguments[2]
    lacking = preflight.missing() if command in preflight.NEEDS_THE_ENGINE else None
    if lacking:
        print(f"mesh: {lacking}", file=sys.stderr)
        return 1
    venv, begun = root / ".venv", time.monotonic()
    try:
        with (root / ".venv.lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            if (venv / ".stamp").exists() and (venv / ".stamp").read_text().strip() == stamp:
                return 0
            packages = sum(line[:1].isalnum() for line in (root / "requirements.lock").open())
            print(
                f"mesh: installing {packages} packages into .venv … ",
                end="",
                file=sys.stderr,
                flush=True,
            )
            install(root, venv)
            (venv / ".stamp").write_text(stamp + "\n")
            print(f"done in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    except BootstrapFailed as fault:
        print(f"\nmesh: {fault}", file=sys.stderr)
        return 1
    except OSError as fault:
        print(f"\nmesh: {root}: {fault.strerror}: ./mesh needs to write .venv there", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmesh: interrupted; the next ./mesh begins again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
