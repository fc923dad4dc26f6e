"""Everything at once, in order of need; what dies is started again; all stops within seconds."""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from mesh_contracts import rights
from mesh_contracts.streams import USERS

from mesh_tools.embedded.nats import Nats
from mesh_tools.embedded.postgres import Postgres
from mesh_tools.up import admin, disk, keys, plan, readiness, stock
from mesh_tools.up.child import LOG_CHECK_S, Child, Runs
from mesh_tools.up.layout import Layout, UpFailed
from mesh_tools.up.service import ServiceProcess
from mesh_tools.up.state import State

READY_WITHIN_S = 60.0
GATEWAY_STOP_S = 6.0
SERVICES_STOP_S = 6.0
ENGINES_STOP_S = 3.0
GIVE_UP_LOOK_S = 0.2
RESTARTS_BEFORE_READY = 8
"""A process that dies so often before the mesh was ever ready will not come."""


class Supervisor:
    """One mesh on this machine, from nothing to ready to nothing."""

    def __init__(
        self, layout: Layout, told: plan.Told, made: keys.Secrets, state: State, nodes: list[str]
    ) -> None:
        self.layout = layout
        self.told = told
        self.made = made
        self.state = state
        self.nodes = nodes
        self.gateways = plan.gateways_of(told.gateways)
        self.children: dict[str, Child] = {}
        self.began = time.monotonic()
        self.stop_wished = asyncio.Event()
        self._watches: set[asyncio.Task[None]] = set()
        # Our end closes when we end, however we end; then the engines' shims end.
        self._lifeline, self._engines_end = socket.socketpair()
        self.nats = Nats(layout.nats, told.ports["nats"])
        self.postgres = Postgres(layout.postgres, told.ports["postgres"])

    def say(self, text: str) -> None:
        """Tell people one line, with the time since the start."""
        # Whoever listened may have gone (`mesh up | head`): that is no reason to fail.
        with contextlib.suppress(OSError):
            print(f"{time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    async def run(self, *, bare: bool) -> int:
        """Start, say ready, serve until told to stop, stop. Return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop_wished.set)
        stopped = asyncio.create_task(self.stop_wished.wait())
        started = asyncio.create_task(self._start(bare=bare))
        code = 0
        try:
            await asyncio.wait((stopped, started), return_when=asyncio.FIRST_COMPLETED)
            if started.done():
                started.result()
                await stopped
        except UpFailed as fault:
            self.say(f"not ready: {fault}")
            code = 1
        finally:
            started.cancel()
            await asyncio.gather(started, return_exceptions=True)
            await self._stop()
        return code

    async def _start(self, *, bare: bool) -> None:
        opening = asyncio.create_task(self._open(bare=bare))
        hopeless = asyncio.create_task(self._give_up())
        try:
            done, _ = await asyncio.wait(
                (opening, hopeless), timeout=READY_WITHIN_S, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                missing = await readiness.missing(self._ops_ports())
                raise UpFailed(
                    f"after {READY_WITHIN_S:g} s these are missing: {missing or 'the endpoints'};"
                    f" the logs are in {self.layout.run}"
                )
            for task in done:
                task.result()
        finally:
            opening.cancel()
            hopeless.cancel()
            await asyncio.gather(opening, hopeless, return_exceptions=True)
        self.state.write()
        self.say(
            f"ready in {time.monotonic() - self.began:.1f} s · {self.state.gateway} (its API: /docs)"
        )
        absent = self.layout.absent(self.nodes)
        if absent:
            self.say(
                f"not started, though known from before: {', '.join(absent)}. What runs there does not answer:"
                f" move it with `mesh node cordon {absent[0]}`, or start with more --nodes"
            )
        idle = self.layout.idle_doors(self.gateways)
        if idle:
            self.say(
                f"not started, though known from before: {', '.join(idle)}. What such a gateway had not told yet is"
                f" told once it runs again: start with --gateways {len(self.gateways) + len(idle)}"
            )
        self._keep(self._bound_logs())
        bus = self.children["nats-server"]
        self._keep(disk.watch(self.layout.data, self.say, lambda: bus.signal(signal.SIGTERM)))

    async def _give_up(self) -> None:
        while True:
            for child in self.children.values():
                if child.restarts >= RESTARTS_BEFORE_READY:
                    raise UpFailed(
                        f"{child.name} died {child.restarts} times; it said: {child.last_words()}"
                        f" ({child.log} has more)"
                    )
            await asyncio.sleep(GIVE_UP_LOOK_S)

    async def _open(self, *, bare: bool) -> None:
        self.nats.prepare(
            rights.nats_conf(
                self.made.users,
                port=self.told.ports["nats"],
                store_dir=str(self.nats.store.absolute()),
                callout_issuer=self.made.callout,
            )
        )
        self._begin("nats-server", "nats-server", self.nats)
        for name in self.gateways:
            self._serve(plan.service(self.layout, self.told, "gateway", None, name=name))
        await asyncio.gather(self._declare(), self._store())
        self.say("bus and database stand; the services are starting")
        # A node that is refused waits for seconds before it tries again: first who lets it in.
        await readiness.ready(self._ops_ports()[USERS["identity"]])
        for name in self.nodes:
            self._serve(plan.agent(self.layout, self.told, name))
        ports = self._ops_ports()
        await asyncio.gather(
            self._deploy(bare=bare), *(readiness.ready(port) for port in ports.values())
        )

    async def _store(self) -> None:
        await asyncio.to_thread(self.postgres.prepare)
        self._begin("postgres", "postgres", self.postgres)
        await self.postgres.wait_ready()
        self.state.postgres_dsn = self.postgres.admin_dsn
        for owner in plan.STORED:
            dsn = await self.postgres.ensure_database(owner)
            self._serve(plan.service(self.layout, self.told, owner, dsn))

    async def _deploy(self, *, bare: bool) -> None:
        ports = self._ops_ports()
        await asyncio.gather(
            *(readiness.ready(ports[USERS[owner]]) for owner in ("gateway", "placement"))
        )
        if bare:
            await stock.key_opens(self.state.gateway, self.made.project_key)
            return
        serving = await stock.deploy(self.state.gateway, self.made.project_key, self.say)
        self.say(f"serving: {', '.join(serving) or 'nothing: all of it is asleep'}")

    async def _declare(self) -> None:
        await self.nats.wait_ready()
        log = self.layout.run / "admin.log"
        code = await asyncio.to_thread(
            admin.run_apart, self.nats.url, self.layout.keys / "admin.nk", log
        )
        if code != 0:
            raise UpFailed(f"the streams and buckets could not be declared; {log} says why")

    def _serve(self, spec: plan.Spec) -> None:
        for own in ("AGENT_DATA_DIR", "GATEWAY_DATA_DIR"):
            if own in spec.environment:
                Path(spec.environment[own]).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._begin(
            spec.name, spec.service, ServiceProcess(spec, self._engines_end.fileno()), spec.ops_port
        )

    def _begin(self, name: str, service: str, runs: Runs, ops_port: int | None = None) -> None:
        child = Child(name, service, runs, self.layout.run / f"{name}.log", self.say)
        child.ops_port = ops_port
        self.children[name] = child
        child.start()
        self._pids_changed()
        self._keep(child.watch(self._pids_changed))

    def _pids_changed(self) -> None:
        pids: dict[str, list[int]] = {}
        for child in self.children.values():
            pids.setdefault(child.service, []).extend([child.pid] if child.pid else [])
        self.state.pids = pids
        try:
            self.state.refresh()
        except UpFailed as fault:
            # Whoever died is started again all the same.
            self.say(str(fault))

    def _ops_ports(self) -> dict[str, int]:
        return {name: child.ops_port for name, child in self.children.items() if child.ops_port}

    def _keep(self, work: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(work)
        self._watches.add(task)
        task.add_done_callback(self._watches.discard)

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_S)
            for child in self.children.values():
                child.bound_log()

    async def _stop(self) -> None:
        """Stop the door, then who serves it, then the engines, then what all of them stand on."""
        self.say("stopping")
        began = time.monotonic()
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._kill)
        for child in self.children.values():
            child.stopping()
        base = {"nats-server", "postgres"}
        door = [child for child in self.children.values() if child.service == USERS["gateway"]]
        rest = [c for name, c in self.children.items() if name not in base and c not in door]
        await self._end(door, GATEWAY_STOP_S)
        await self._end(rest, SERVICES_STOP_S)
        await self._end_engines()
        for runs in (self.nats, self.postgres):
            await asyncio.to_thread(runs.stop)
        for task in list(self._watches):
            task.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        self.state.remove()
        self.say(f"stopped in {time.monotonic() - began:.1f} s; the state stays in {self.layout.data}")

    async def _end(self, children: list[Child], within_s: float) -> None:
        for child in children:
            child.signal(signal.SIGTERM)
            child.signal(signal.SIGCONT)
        ended = await asyncio.gather(*(child.ended(within_s) for child in children))
        for child, gone in zip(children, ended, strict=True):
            if not gone:
                self.say(f"{child.name} did not stop within {within_s:g} s and was killed")
                child.signal(signal.SIGKILL)
        await asyncio.gather(*(child.ended(1.0) for child in children))

    async def _end_engines(self) -> None:
        self._engines_end.close()
        self._lifeline.shutdown(socket.SHUT_WR)
        self._lifeline.setblocking(False)
        # Nobody writes here: the end of the stream says that the last engine's shim has gone.
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(ENGINES_STOP_S):
                await asyncio.get_running_loop().sock_recv(self._lifeline, 1)
        self._lifeline.close()

    def _kill(self) -> None:
        self.say("killing what is left")
        for child in self.children.values():
            child.signal(signal.SIGKILL)
