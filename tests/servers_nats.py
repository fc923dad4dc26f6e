"""A real nats-server for the tests: kill it, freeze it, start it again on the same port."""

import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshkit.config import Secret, Settings

from tests.scratch import scratch

START_WITHIN_S = 10.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class NatsServer:
    """One server without authentication, JetStream in a folder of its own, on a port that stays."""

    def __init__(self, folder: Path, *, config: Path | None = None) -> None:
        self._folder = folder
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it (again); return once it takes connections."""
        assert self._process is None, "it runs already"
        command = [str(Path(sysconfig.get_path("scripts")) / "nats-server")]
        if self._config is not None:
            # A whole configuration says everything; the port is still ours to have chosen.
            command += ["-c", str(self._config)]
        else:
            command += ["-a", "127.0.0.1", "-p", str(self.port)]
            command += ["-js", "-sd", str(self._folder / "jetstream")]
        with (self._folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + START_WITHIN_S
        while time.monotonic() < until:
            assert self._process.poll() is None, (self._folder / "nats.log").read_text()[-2_000:]
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as line:
                    if line.recv(4) == b"INFO":
                        return
            except OSError:
                time.sleep(0.02)
        raise AssertionError((self._folder / "nats.log").read_text()[-2_000:])

    def kill(self) -> None:
        """Kill it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop_signal(self) -> None:
        """Freeze it: its sockets stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # It is a moment until all its threads stand still: what comes meanwhile is answered.
        state = Path(f"/proc/{self._process.pid}/stat")
        while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.001)

    def cont_signal(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop it in order."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


@pytest.fixture
def nats_server() -> Iterator[NatsServer]:
    """A nats-server that answers, with an empty JetStream."""
    folder = scratch("mesh-nats-")
    server = NatsServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


MESH_SECRET = Secret("a secret for tests")

Connect = Callable[..., Awaitable[Bus]]


def settings_for(url: str, folder: Path, seed: str = "") -> Settings:
    """Return settings with an nkey seed, or none for a server that asks for none."""
    credentials = folder / "credentials.nk"
    credentials.write_text(seed)
    return Settings(nats_url=url, nats_credentials=credentials, mesh_secret_file=credentials)


@pytest.fixture
async def connect(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Connect]:
    """Connect to ``nats_server`` as any user: ``bus = await connect("metering")``."""
    made: list[Bus] = []

    async def connecting(user: str = "admin") -> Bus:
        settings = settings_for(nats_server.url, tmp_path)
        made.append(await Bus.connect(settings, user=user, clock=SystemClock(), secret=MESH_SECRET))
        return made[-1]

    yield connecting
    for bus in made:
        await bus.close()


@pytest.fixture
async def bus(connect: Connect) -> Bus:
    """A connection to ``nats_server``."""
    return await connect("admin")
