"""The start of ``mesh up``: looks before it leaps, so that what cannot work starts nothing."""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from meshkit.errors import MeshError

from mesh_tools import preflight
from mesh_tools.up import keys, plan
from mesh_tools.up.layout import Layout, UpFailed, is_free, keep_ports
from mesh_tools.up.state import State
from mesh_tools.up.supervisor import Supervisor


def begin(wanted: argparse.Namespace) -> int:
    """Check the machine, the folder and the port; then run. Return the exit code."""
    try:
        lacking = preflight.missing()
        if lacking:
            raise UpFailed(lacking)
        layout = Layout(Path(wanted.data).absolute())
        ready_file = Path(wanted.ready_file).absolute() if wanted.ready_file else None
        if ready_file and not os.access(ready_file.parent, os.W_OK | os.X_OK):
            raise UpFailed(f"--ready-file {ready_file}: its folder is not there or cannot be written")
        if ready_file and ready_file.is_dir():
            raise UpFailed(f"--ready-file {ready_file} is a folder: name a file")
        layout.make()
        with layout.claim():
            supervisor = prepare(layout, wanted)
            return asyncio.run(supervisor.run(bare=wanted.bare))
    except MeshError as fault:
        print(f"mesh up: {fault}", file=sys.stderr)
        return 1


def prepare(layout: Layout, wanted: argparse.Namespace) -> Supervisor:
    """Return a mesh that is ready to start: ports and secrets chosen. Raises ``UpFailed``."""
    nodes = plan.nodes_of(wanted.nodes)
    names = plan.port_names(wanted.nodes, wanted.gateways)
    ports = keep_ports(layout.ports, names if wanted.port else [*names, "gateway"], other=wanted.port)
    gateway_port = wanted.port or ports["gateway"]
    if not is_free(gateway_port):
        raise UpFailed(
            f"port {gateway_port} is taken by another program: free it, or choose another with --port"
        )
    made = keys.prepare(layout.keys, nodes=len(nodes))
    told = plan.Told(
        ports=ports,
        gateway_port=gateway_port,
        environ=dict(os.environ),
        gateways=wanted.gateways,
    )
    files = [layout.state] + ([Path(wanted.ready_file).absolute()] if wanted.ready_file else [])
    state = State(
        files,
        gateway=f"http://127.0.0.1:{gateway_port}",
        admin_key=made.admin_key,
        project_key=made.project_key,
        nats_url=f"nats://127.0.0.1:{ports['nats']}",
    )
    state.remove()
    return Supervisor(layout, told, made, state, nodes)
