"""A service as a child process: tied to us, in a group of its own, told what its plan says."""

import signal
import subprocess
from pathlib import Path

from mesh_tools.embedded import tied
from mesh_tools.up.plan import Spec, command

STOP_WITHIN_S = 6.0


class ServiceProcess:
    """Runs one ``Spec``. ``lifeline`` is our end's peer: engines live as long as it is open."""

    def __init__(self, spec: Spec, lifeline: int) -> None:
        self.spec = spec
        self.process: subprocess.Popen[bytes] | None = None
        self._lifeline = lifeline if spec.lifeline else None

    def spawn(self, log: Path) -> int:
        """Start it; return its process id. A crash of ours kills it: it is made for that."""
        environment = self.spec.environment
        inherited: tuple[int, ...] = ()
        if self._lifeline is not None:
            environment = {**environment, "AGENT_LIFELINE_FD": str(self._lifeline)}
            inherited = (self._lifeline,)
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                tied.command(signal.SIGKILL, *command(self.spec)),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment,
                # A Ctrl-C at the terminal is for the supervisor, which stops us in order.
                process_group=0,
                pass_fds=inherited,
            )
        return self.process.pid

    def stop(self) -> None:
        """Ask it to stop; kill it where it does not within ``STOP_WITHIN_S``."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
