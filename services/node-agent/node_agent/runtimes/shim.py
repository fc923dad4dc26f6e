"""Owns one engine: its process group, its log, its exit code. Outlives the agent.

``python -I -S shim.py FOLDER WORKLOAD LIFELINE_FD KNOWN_FD STOP_WITHIN_S WORK GROUPS PROGRAM ARGUMENT…`` (no lifeline:
-1; KNOWN is the program's environment, ``NAME=value`` with a NUL behind each: none of it is ours; WORK is the folder the program begins in, empty for ours; GROUPS are the control groups that bound it, with colons
between them), as the leader of its own session. It writes into FOLDER

    state   ``key=value`` lines: who it is, its engine, the engine's address once that is printed
    log     what the engine printed; past ``LOG_BYTES_MAX`` it becomes ``log.1``
    exit    how it ended: ``<exit code> <why>``, negative for a signal

and ends its engine on SIGTERM, or when the lifeline reaches its end. It imports next to nothing,
because there is one beside every engine. A lock on FOLDER keeps a second shim of a workload out.
"""

import fcntl
import os
import select
import signal
import sys
import time

LOG_BYTES_MAX = 1024 * 1024
READ_BYTES = 65_536
REST_BYTES_MAX = 2 * LOG_BYTES_MAX
REST_WITHIN_S = 1.0
"""So much of what a pipe still holds is read once the engine has ended, and for so long: more than a pipe can hold."""
LINE_BYTES_MAX = 4_096
STOP_WITHIN_S = 8.0
"""From SIGTERM to SIGKILL where the agent wishes the end, if nothing else is said: an engine may finish its answers."""

LIFELINE_STOP_WITHIN_S = 1.5
"""The same where whoever owns the machine is gone, or waits."""

ADDRESS_PREFIX = b"ENGINE_ADDRESS="
ERROR_PREFIX = b"ENGINE_ERROR="
NO_LIFELINE = -1
SAID = ("state", "exit", "error")
"""What one start leaves; the next begins without."""

MIB = 1024 * 1024
EMPTY_TRIES, EMPTY_AGAIN_S = 20, 0.01

EXIT_TAKEN = 75
"""Another shim holds the folder: its engine runs."""


def start_time(pid: int) -> int:
    """Return when a process began, in ticks since the machine's start: with the pid it is unique."""
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib costs megabytes here
        return int(file.read().rpartition(b")")[2].split()[19])


def told(file: int) -> "dict[bytes, bytes]":
    """Return the environment that stands in a file, and close that."""
    pairs = b""
    while piece := os.read(file, READ_BYTES):
        pairs += piece
    os.close(file)
    return dict(pair.split(b"=", 1) for pair in pairs.split(b"\0") if pair)


class Log:
    """A file that is bounded: past the bound it becomes ``log.1``, and a new one begins."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._open()

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._file).st_size

    def write(self, data: bytes) -> None:
        """Append; a full disk loses lines, never the engine."""
        try:
            if self._size + len(data) > LOG_BYTES_MAX:
                os.close(self._file)
                os.replace(self.path, self.path + ".1")  # noqa: PTH105 - as above
                self._open()
            self._size += os.write(self._file, data)
        except OSError:
            return


class Shim:
    """One engine and its end."""

    def __init__(
        self,
        folder: str,
        workload: str,
        lifeline: int,
        program: "list[str]",
        known: "dict[bytes, bytes]",
        *,
        stop_within_s: float = STOP_WITHIN_S,
        work: str = "",
        groups: "list[str] | tuple[()]" = (),
    ) -> None:
        self.folder = folder
        self.groups = groups
        self.lifeline = lifeline
        self.known = known
        self.work = work
        self.why = "ended"
        self.kill_at = float("inf")
        self.state = {
            "workload_id": workload,
            "pid": str(os.getpid()),
            "start_time": str(start_time(os.getpid())),
        }
        self.lock = os.open(f"{folder}/lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os._exit(EXIT_TAKEN)
        for name in SAID:
            if os.path.exists(f"{folder}/{name}"):  # noqa: PTH110 - as above
                os.unlink(f"{folder}/{name}")  # noqa: PTH108 - as above
        self.log = Log(f"{folder}/log")
        self.line = b""
        self.wake, wake_write = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.engine, self.output = self.spawn(program)
        signal.signal(signal.SIGTERM, lambda *_: self.stop("stopped", stop_within_s))
        self.state["engine_pid"] = str(self.engine)
        self.state["engine_start_time"] = str(start_time(self.engine))
        self.write("state", "".join(f"{key}={value}\n" for key, value in self.state.items()))

    def spawn(self, program: "list[str]") -> "tuple[int, int]":
        """Return the engine's pid, the leader of its own process group, and its output."""
        output, writes = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(writes, 1)
            os.dup2(writes, 2)
            os.closerange(3, max(64, self.lifeline + 1, writes + 1))
            try:
                for group in self.groups:
                    with open(f"{group}/cgroup.procs", "w") as procs:  # noqa: PTH123 - as above
                        procs.write("0")
                if self.work:
                    os.chdir(self.work)
                os.execve(program[0], program, self.known)  # noqa: S606 - there is no shell to escape
            except OSError as fault:
                os.write(1, b"ENGINE_ERROR=" + str(fault).encode() + b"\n")
            os._exit(127)
        os.close(writes)
        try:  # noqa: SIM105 - contextlib costs memory here
            # Both sides do it: whichever comes first, signals to the group arrive from now on.
            os.setpgid(pid, pid)
        except OSError:
            pass
        return pid, output

    def write(self, name: str, text: str) -> None:
        """Write a file whole or not at all."""
        path = f"{self.folder}/{name}"
        with open(f"{path}.new", "w") as file:  # noqa: PTH123 - as above
            file.write(text)
        os.replace(f"{path}.new", path)  # noqa: PTH105 - as above

    def stop(self, why: str, within_s: float) -> None:
        """Have the engine end; kill it where it has not within the bound."""
        if self.why == "ended":
            self.why = why
            self.tell_engine(signal.SIGTERM)
        self.kill_at = min(self.kill_at, time.monotonic() + within_s)

    def tell_engine(self, number: int) -> None:
        """Send a signal to the engine and all it started."""
        try:
            os.killpg(self.engine, number)
        except OSError:
            return

    def hear(self) -> bool:
        """Log what the engine printed, and notice its address; false once it prints no more."""
        data = os.read(self.output, READ_BYTES)
        if not data:
            return False
        self.log.write(data)
        *lines, self.line = (self.line + data).split(b"\n")
        self.line = self.line[-LINE_BYTES_MAX:]
        for line in lines:
            if line.startswith(ADDRESS_PREFIX):
                self.state["address"] = line.removeprefix(ADDRESS_PREFIX).decode()
                self.write("state", "".join(f"{key}={value}\n" for key, value in self.state.items()))
            elif line.startswith(ERROR_PREFIX):
                self.write("error", line.removeprefix(ERROR_PREFIX).decode(errors="replace"))
        return True

    def run(self) -> int:
        """Watch over the engine until it has ended; return its exit code."""
        waits = [self.output, self.wake]
        if self.lifeline != NO_LIFELINE:
            waits.append(self.lifeline)
        while True:
            left = self.kill_at - time.monotonic()
            ready, _, _ = select.select(waits, [], [], None if left == float("inf") else max(0.0, left))
            if self.kill_at <= time.monotonic():
                self.tell_engine(signal.SIGKILL)
                self.kill_at = float("inf")
            if self.wake in ready:
                os.read(self.wake, READ_BYTES)
            if self.output in ready and not self.hear():
                waits.remove(self.output)
            if self.lifeline in ready:
                waits.remove(self.lifeline)
                self.stop("lifeline", LIFELINE_STOP_WITHIN_S)
            ended, status = os.waitpid(self.engine, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)

    def close(self, code: int) -> None:
        """Leave nothing of the engine behind, and say how it ended."""
        self.tell_engine(signal.SIGKILL)
        taken = [most for group in self.groups if code and (most := exceeded(group)) is not None]
        for group in self.groups:
            empty(group)
            try:  # noqa: SIM105 - as above
                # The last of its agent takes that one's group along: it may be gone by now.
                os.rmdir(os.path.dirname(group))  # noqa: PTH106, PTH120 - as above
            except OSError:
                pass
        self.hear_the_rest()
        for most in taken:
            self.write("error", f"it took more than its {most // MIB} MiB of memory")
        self.write("exit", f"{code} {self.why}\n")

    def hear_the_rest(self) -> None:
        """Log what was printed before the end; what has left both groups may print on, and is not waited for."""
        os.set_blocking(self.output, False)
        until, left = time.monotonic() + REST_WITHIN_S, REST_BYTES_MAX
        try:
            while left > 0 and time.monotonic() < until and self.hear():
                left -= READ_BYTES
        except BlockingIOError:
            return


def exceeded(group: str) -> "int | None":
    """Return a group's memory in bytes, where the kernel has ended something in it for taking more."""
    for counted, bound in (
        ("memory.events", "memory.max"),
        ("memory.oom_control", "memory.limit_in_bytes"),
    ):
        try:
            with open(f"{group}/{counted}") as file:  # noqa: PTH123 - as above
                ended = [line.split()[1] for line in file if line.startswith("oom_kill ")]
            with open(f"{group}/{bound}") as file:  # noqa: PTH123 - as above
                return int(file.read()) if ended and ended[0] != "0" else None
        except OSError:
            continue
    return None


def empty(group: str) -> None:
    """End whatever left its process group but not its control group, and forget that; the agent does what is left."""
    for _ in range(EMPTY_TRIES):
        try:
            with open(f"{group}/cgroup.procs") as procs:  # noqa: PTH123 - as above
                for pid in procs.read().split():
                    os.kill(int(pid), signal.SIGKILL)
            os.rmdir(group)  # noqa: PTH106 - as above
        except OSError:
            time.sleep(EMPTY_AGAIN_S)
        else:
            return


def main(arguments: "list[str]") -> None:
    """Run the engine to its end."""
    folder, workload, lifeline, known, within, work, said, *program = arguments
    shim = Shim(
        *(folder, workload, int(lifeline), program, told(int(known))),
        stop_within_s=float(within),
        work=work,
        groups=said.split(":") if said else [],
    )
    shim.close(shim.run())


if __name__ == "__main__":
    main(sys.argv[1:])
