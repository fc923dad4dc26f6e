"""Workloads as child processes: start one under its shim, find it again, end it.

All that is known of a workload stands in its folder; whoever opens the folder next knows it, too.
"""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from node_agent.runtimes import shim
from node_agent.runtimes.kept import write_whole
from node_agent.runtimes.surroundings import clean

LOG_TAIL_BYTES = 4_096
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a workload's folder says now. ``why`` is ``ended``, ``stopped`` or ``lifeline``."""

    alive: bool
    shim_pid: int | None = None
    shim_began: int | None = None
    engine_pid: int | None = None
    address: str | None = None
    exit_code: int | None = None
    why: str | None = None
    error: str | None = None


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent itself remembers of a workload; never its key.

    ``whole``: its devices are its alone. ``start_within_s`` is how long it may take until it first answers,
    ``stop_within_s`` until it has ended once it was told to, ``container`` the name of its container, if it has one.
    """

    workload_id: str
    name: str
    devices: list[str]
    incarnation: int
    boot_id: str
    kind: Literal["engine", "job"] = "engine"
    whole: bool = False
    start_within_s: float = 60.0
    stop_within_s: float = shim.STOP_WITHIN_S
    container: str = ""


def launch(
    folder: Path,
    kept: Kept,
    program: Sequence[str],
    environment: Mapping[str, str],
    lifeline: int | None,
    *,
    groups: Sequence[Path] = (),
    reads: bytes = b"",
) -> int:
    """Start ``program`` under a shim, within control groups; return the shim's pid, for ``ended`` to be asked about.

    It gets ``environment`` and nothing else of ours, and finds ``reads`` on its standard input; the shim itself gets
    nothing that a tenant wrote. A workload that runs already stays as it is. A job begins in a folder of its own,
    ``work``. Raises ``OSError``.
    """
    work = folder / "work" if kept.kind == "job" else None
    if work is not None:
        work.mkdir(mode=0o700, exist_ok=True)
    pairs = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in environment.items())
    with _in_memory(pairs) as known, _in_memory(reads) as said:
        numbers = (shim.NO_LIFELINE if lifeline is None else lifeline, known, kept.stop_within_s)
        about = (str(folder), kept.workload_id, *map(str, numbers), str(work or ""))
        return os.posix_spawn(
            sys.executable,
            [
                *(sys.executable, "-I", "-S", shim.__file__),
                *(*about, ":".join(map(str, groups)), *program),
            ],
            clean(os.environ),
            file_actions=_files(folder, said, known, lifeline),
            setsid=True,
        )


Actions = list[tuple[int, ...] | tuple[int, int, str, int, int]]


def _files(folder: Path, said: int, known: int, lifeline: int | None) -> Actions:
    """Return what a shim has open at its start: what its program reads, its own log, what it is given by number."""
    made = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files: Actions = [
        (os.POSIX_SPAWN_DUP2, said, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, str(folder / "shim.log"), made, 0o600),
    ]
    for one in (known, lifeline):
        if one is not None:
            # Onto itself: that alone lets it through the exec, and nothing else of ours gets through.
            files.append((os.POSIX_SPAWN_DUP2, one, one))
    return files


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    """Open what is to be read once, and is to stand in no file: it may be secret. Raises ``OSError``."""
    file = os.memfd_create("said") if content else os.open(os.devnull, os.O_RDONLY)
    try:
        if content:
            with open(file, "wb", closefd=False) as opened:
                opened.write(content)
            os.lseek(file, 0, os.SEEK_SET)
        yield file
    finally:
        os.close(file)


def over(lifeline: int | None) -> bool:
    """Tell whether a lifeline has ended. Nobody ever writes to it: readable means ended."""
    return lifeline is not None and bool(select.select([lifeline], [], [], 0)[0])


def ended(pid: int) -> bool:
    """Tell whether a shim that this process started has ended; then it is reaped."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def look(folder: Path, workload_id: str) -> Found:
    """Return what runs for a workload: found by pid, start time and workload id, never by pid alone."""
    state = _state(folder)
    pid = _number(state, "pid")
    began = _number(state, "start_time")
    alive = pid is not None and state.get("workload_id") == workload_id and lives(pid, began)
    code, why = _exit(folder)
    return Found(
        alive=alive,
        shim_pid=pid,
        shim_began=began,
        engine_pid=_number(state, "engine_pid"),
        address=state.get("address"),
        exit_code=code,
        why=why,
        error=_text(folder / "error"),
    )


def same(found: Found) -> bool:
    """Tell whether what was found still lives and has no more to say; cheaper than to look again."""
    return (
        found.alive
        and found.address is not None
        and found.shim_pid is not None
        and lives(found.shim_pid, found.shim_began)
    )


def lives(pid: int, began: int | None) -> bool:
    """Tell whether the process that began then still runs; one that only waits to be reaped does not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    return fields[0] not in {b"Z", b"X"} and int(fields[19]) == began


def tell_shim(folder: Path, workload_id: str, number: signal.Signals) -> bool:
    """Send a signal to a workload's shim; false where it does not run.

    The pidfd is taken before the identity is looked at: a pid that is used again is never hit.
    """
    state = _state(folder)
    pid = _number(state, "pid")
    if pid is None:
        return False
    try:
        held = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not look(folder, workload_id).alive:
            return False
        signal.pidfd_send_signal(held, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(held)
    return True


def kill(folder: Path, workload_id: str) -> None:
    """End the engine and its shim at once, whatever they do."""
    engine = _number(_state(folder), "engine_pid")
    began = _number(_state(folder), "engine_start_time")
    tell_shim(folder, workload_id, signal.SIGKILL)
    if engine is not None and lives(engine, began):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(engine, signal.SIGKILL)


def last_words(folder: Path) -> str:
    """Return the last line of an engine's log, for people."""
    try:
        with (folder / "log").open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][:300] if said else ""


def log_end(folder: Path, most: int) -> tuple[str, bool]:
    """Return the last of what a workload printed, at most so many characters, and whether there was more before."""
    said = b""
    for name in ("log", "log.1"):
        try:
            with (folder / name).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - most - 1))
                said = file.read(most + 1) + said
        except OSError:
            continue
        if len(said) > most:
            break
    text = said.decode(errors="replace")
    return text[-most:], len(text) > most


def boot_id() -> str:
    """Return what names the time since this machine started; pids mean nothing across it."""
    return (_text(BOOT_ID) or "").strip()


def remember(folder: Path, kept: Kept) -> None:
    """Write what the agent keeps of a workload about to start, whole or not at all.

    What an earlier start of it left goes: its address may be another engine's by now.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(folder / "workload.json", msgspec.json.encode(kept))
    for name in shim.SAID:
        (folder / name).unlink(missing_ok=True)


def recall(folder: Path) -> Kept | None:
    """Return what the agent kept of a workload, or nothing where that cannot be read."""
    try:
        return msgspec.json.decode((folder / "workload.json").read_bytes(), type=Kept)
    except (OSError, msgspec.MsgspecError):
        return None


def mark(folder: Path, told: str) -> None:
    """Remember that a fact was told."""
    (folder / f"told.{told}").touch()


def marked(folder: Path, told: str) -> bool:
    """Tell whether a fact was told."""
    return (folder / f"told.{told}").exists()


def _state(folder: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in (_text(folder / "state") or "").splitlines())
    return {key: value for key, _, value in pairs}


def _exit(folder: Path) -> tuple[int | None, str | None]:
    code, _, why = (_text(folder / "exit") or "").strip().partition(" ")
    return (int(code), why) if why else (None, None)


def _number(state: Mapping[str, str], key: str) -> int | None:
    text = state.get(key, "")
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None
