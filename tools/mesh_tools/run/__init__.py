"""``mesh run NAME``: one program of the mesh in the foreground, with a data folder's keys and ports.

For Tilt and for debugging: ``prepare`` makes the folder, ``admin`` declares the bus, the others serve.
``mesh up`` needs none of it, and does not run in the same folder at the same time.
"""

import argparse
import sys
from pathlib import Path

BASE = ("prepare", "admin", "nats-server", "postgres")
SERVICES = (
    "identity",
    "placement",
    "inference-gateway",
    "metering",
    "carbon-accounting",
    "node-agent",
)
PORTS = range(65_536)


def main(argv: list[str]) -> int:
    """Run one program; return its exit code."""
    parser = argparse.ArgumentParser(prog="mesh run", description="One program of the mesh.")
    parser.add_argument("name", choices=[*BASE, *SERVICES])
    parser.add_argument(
        "--data", type=Path, default=Path(".mesh/run"), help="the data folder (.mesh/run)"
    )
    parser.add_argument(
        "--port", type=int, default=8080, help="the gateway's port (8080), for `prepare`"
    )
    parser.add_argument("--ops-port", type=int, help="its private port (one that is kept)")
    parser.add_argument("--ready", action="store_true", help="only tell whether it is ready")
    wanted = parser.parse_args(argv)
    for port in (wanted.port, wanted.ops_port or 0):
        if port not in PORTS:
            parser.error(f"{port} is not a port")
    # Only now: a wrong option should not wait for imports.
    from meshkit.errors import MeshError  # noqa: PLC0415

    from mesh_tools.run.program import Program  # noqa: PLC0415
    from mesh_tools.up.layout import Layout  # noqa: PLC0415

    try:
        program = Program(Layout(wanted.data.absolute()), wanted)
        return program.is_ready() if wanted.ready else program.run()
    except MeshError as fault:
        print(f"mesh run {wanted.name}: {fault}", file=sys.stderr)
        return 1
