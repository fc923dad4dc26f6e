"""One program of the mesh and the data folder it belongs to."""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import subprocess

import msgspec
from mesh_contracts import rights
from mesh_contracts.streams import USERS
from meshkit.errors import MeshError

from mesh_tools.embedded import nats as embedded_nats
from mesh_tools.embedded.nats import Nats
from mesh_tools.embedded.postgres import Postgres
from mesh_tools.up import admin, keys, plan, readiness
from mesh_tools.up.layout import Layout, UpFailed, keep_ports

NODE = "node-1"
LOOK_S = 2.0


class Program:
    """One program and the folder it belongs to. Raises ``UpFailed`` where that is none, or in other hands."""

    def __init__(self, layout: Layout, wanted: argparse.Namespace) -> None:
        self.layout = layout
        self.name: str = wanted.name
        self.wanted = wanted
        if self.name == "prepare":
            layout.make()
            return
        if not layout.ports.exists():
            raise UpFailed(f"{layout.data} is no data folder: `mesh run prepare` makes it")
        self.ports = self._kept()

    def _kept(self) -> dict[str, int]:
        ports: dict[str, int] = msgspec.json.decode(self.layout.ports.read_bytes())
        return ports

    @property
    def nats(self) -> Nats:
        """The folder's nats-server."""
        return Nats(self.layout.nats, self.ports["nats"])

    @property
    def postgres(self) -> Postgres:
        """The folder's Postgres."""
        return Postgres(self.layout.postgres, self.ports["postgres"])

    def run(self) -> int:
        """Run it to its end. Raises ``UpFailed`` where the folder is in other hands."""
        with self.layout.claim(shared=self.name != "prepare"):
            return self._run()

    def _run(self) -> int:
        if self.name == "prepare":
            return self._prepare()
        if self.name == "admin":
            return admin.run_apart(self.nats.url, self.layout.keys / "admin.nk", None)
        if self.name == "nats-server":
            return _become([str(embedded_nats.binary()), "-c", str(self.nats.conf)], dict(os.environ))
        if self.name == "postgres":
            return _become(self.postgres.command, self.postgres.environment)
        if self.name == "node-agent":
            return self._agent()
        spec = self._spec()
        return _become(plan.command(spec), spec.environment)

    def _prepare(self) -> int:
        self.ports = keep_ports(self.layout.ports, plan.port_names(1), other=self.wanted.port)
        made = keys.prepare(self.layout.keys, nodes=1)
        self.nats.prepare(
            rights.nats_conf(
                made.users,
                port=self.ports["nats"],
                store_dir=str(self.nats.store),
                callout_issuer=made.callout,
            )
        )
        self.postgres.prepare()
        (self.layout.data / "gateway.port").write_text(str(self.wanted.port))
        print(f"{self.layout.data} is ready for `mesh run`")
        return 0

    def _spec(self) -> plan.Spec:
        port = int((self.layout.data / "gateway.port").read_text())
        ports = dict(self.ports)
        name = NODE if self.name == "node-agent" else self.name
        if self.wanted.ops_port:
            ports[f"ops.{name}"] = self.wanted.ops_port
        told = plan.Told(ports=ports, gateway_port=port, environ=dict(os.environ))
        if self.name == "node-agent":
            return plan.agent(self.layout, told, NODE)
        owner = {user: owner for owner, user in USERS.items()}[self.name]
        dsn = asyncio.run(self.postgres.ensure_database(owner)) if owner in plan.STORED else None
        return plan.service(self.layout, told, owner, dsn)

    def _agent(self) -> int:
        spec = self._spec()
        (self.layout.nodes / NODE).mkdir(exist_ok=True)
        # Engines live as long as this process, as they do under `mesh up`.
        held, inherited = socket.socketpair()
        with held, inherited:
            environment = {**spec.environment, "AGENT_LIFELINE_FD": str(inherited.fileno())}
            command = plan.command(spec)
            with subprocess.Popen(command, env=environment, pass_fds=(inherited.fileno(),)) as process:
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, lambda *_: process.terminate())
                return process.wait()

    def is_ready(self) -> int:
        """Return 0 where it is ready."""
        with contextlib.suppress(MeshError, OSError):
            return asyncio.run(self._look())
        return 1

    async def _look(self) -> int:
        if self.name == "nats-server":
            await self.nats.wait_ready(LOOK_S)
            return 0
        if self.name == "postgres":
            await self.postgres.wait_ready(LOOK_S)
            return 0
        if self.name in {"prepare", "admin"}:
            raise UpFailed(f"{self.name} ends when it is done: there is nothing to look at")
        name = NODE if self.name == "node-agent" else self.name
        status, _ = await readiness.look(self.wanted.ops_port or self.ports[f"ops.{name}"])
        return 0 if status == 200 else 1


def _become(command: list[str], environment: dict[str, str]) -> int:
    os.execve(command[0], command, environment)  # noqa: S606
