"""``mesh up``: the whole mesh on this machine, supervised; ready when it says so."""

import argparse
from pathlib import Path

NODES_MAX = 16
GATEWAYS_MAX = 16
GATEWAY_PORT = 8080


def main(argv: list[str]) -> int:
    """Run a mesh until it is told to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="mesh up", description="The whole mesh on this machine.")
    parser.add_argument(
        "--port", type=int, default=GATEWAY_PORT, help="the gateway's port (8080); 0 takes a free one"
    )
    parser.add_argument(
        "--data", type=Path, default=Path(".mesh"), help="where it keeps all it has (.mesh)"
    )
    parser.add_argument("--nodes", type=int, default=2, help="how many node-agents (2)")
    parser.add_argument(
        "--gateways", type=int, default=1, help="how many gateways on one port, one a core (1)"
    )
    parser.add_argument(
        "--ready-file", type=Path, help="gets addresses, keys and process ids, once ready"
    )
    parser.add_argument("--bare", action="store_true", help="without the two endpoints")
    wanted = parser.parse_args(argv)
    if not 0 <= wanted.port < 65_536:
        parser.error(f"--port {wanted.port} is not a port")
    if not 0 <= wanted.nodes <= NODES_MAX:
        parser.error(f"--nodes takes 0 to {NODES_MAX}")
    if not 1 <= wanted.gateways <= GATEWAYS_MAX:
        parser.error(f"--gateways takes 1 to {GATEWAYS_MAX}")
    if wanted.nodes == 0 and not wanted.bare:
        parser.error("--nodes 0 leaves nothing to serve the endpoints: add --bare")
    # Only now: a wrong option should not wait for imports.
    from mesh_tools.up.begin import begin  # noqa: PLC0415

    return begin(wanted)
