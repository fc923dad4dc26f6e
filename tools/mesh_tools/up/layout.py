"""The data folder of one mesh: where things lie, whose it is now, and which ports it keeps."""

import fcntl
import json
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from meshkit.errors import MeshError


class UpFailed(MeshError):
    """The mesh cannot be started; the message says why and what to do."""


class Layout:
    """The folders and files of one mesh."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.nats = data / "nats"
        self.postgres = data / "postgres"
        self.keys = data / "keys"
        self.run = data / "run"
        self.traces = data / "traces"
        self.models = data / "models"
        self.nodes = data / "nodes"
        self.gateway = data / "gateway"
        self.state = data / "state.json"
        self.ports = data / "ports.json"

    def make(self) -> None:
        """Make the folders. Raises ``UpFailed`` where they cannot be written."""
        closed = (self.nats, self.keys, self.run, self.traces, self.nodes, self.gateway)
        try:
            # Postgres, as nobody, must be able to pass through; the rooms that hold something are closed.
            self.data.mkdir(parents=True, exist_ok=True, mode=0o755)
            for folder in (*closed, self.postgres, self.models):
                folder.mkdir(exist_ok=True)
            for folder in closed:
                folder.chmod(0o700)
        except OSError as fault:
            raise UpFailed(
                f"{self.data}: {fault.strerror}; name a folder that can be written with --data"
            ) from fault

    def absent(self, nodes: Iterable[str]) -> list[str]:
        """Return the nodes that ran in this folder before and are not among ``nodes``."""
        return sorted({folder.name for folder in self.nodes.iterdir()} - set(nodes))

    def door(self, gateway: str) -> Path:
        """Return where a gateway keeps its journal, by its process's name."""
        return self.data / gateway.removeprefix("inference-")

    def idle_doors(self, gateways: Iterable[str]) -> list[str]:
        """Return the gateways that ran in this folder before and are not among ``gateways``."""
        doors = {self.door(name).name for name in gateways}
        return sorted({folder.name for folder in self.data.glob("gateway-*")} - doors)

    def claim(self, *, shared: bool = False) -> IO[str]:
        """Hold the folder until the file is closed. Raises ``UpFailed`` while another mesh runs in it.

        A ``shared`` claim is one program's, beside others of the same mesh: it lasts through an exec.
        """
        try:
            file = (self.data / ".lock").open("a+")
        except OSError as fault:
            raise UpFailed(
                f"{self.data}: {fault.strerror}; name a folder that can be written with --data"
            ) from fault
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as fault:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise UpFailed(
                f"a mesh already runs in {self.data} (process {owner}): stop it, or name another folder with --data"
            ) from fault
        os.set_inheritable(file.fileno(), shared)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        return file


def write_private(path: Path, text: str) -> None:
    """Put ``text`` into a file that only we may read; whoever reads it sees all of it or the old one."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def is_free(port: int) -> bool:
    """Tell whether a loopback port can be listened on now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
        return True


def keep_ports(path: Path, wanted: Iterable[str], *, other: int = 0) -> dict[str, int]:
    """Return a port for each name: the one kept from the last start, where it is still free. None is ``other``."""
    try:
        kept: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        kept = {}
    ports: dict[str, int] = {}
    taken = {other}
    held: list[socket.socket] = []
    try:
        for name in wanted:
            port = kept.get(name)
            if not (isinstance(port, int) and port not in taken and is_free(port)):
                port = other
            while port in taken:
                # Held open meanwhile, so that no two names get the same one.
                probe = socket.socket()
                held.append(probe)
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            taken.add(port)
            ports[name] = port
    finally:
        for probe in held:
            probe.close()
    write_private(path, json.dumps({**kept, **ports}, indent=1) + "\n")
    return ports
