"""``mesh bench NAME``: reproducible benchmarks, each with its yardstick in the same run."""

import argparse
import sys
from importlib import import_module

KNOWN = {
    "agent": "mesh_tools.bench.agent",
    "bus": "mesh_tools.bench.bus",
    "gateway": "mesh_tools.bench.gateway.command",
    "placement": "mesh_tools.bench.placement.command",
    "probe": "mesh_tools.bench.probe",
    "routing": "mesh_tools.bench.routing",
    "start": "mesh_tools.bench.start",
}
NOT_YET = ("identity", "metering", "carbon")


def main(argv: list[str]) -> int:
    """Run one benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="mesh bench", description="A reproducible benchmark.")
    parser.add_argument("name", choices=(*KNOWN, *NOT_YET))
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    wanted, rest = parser.parse_known_args(argv)
    if wanted.name in NOT_YET:
        print(f"mesh bench {wanted.name}: not there yet in this version", file=sys.stderr)
        return 2
    code: int = import_module(KNOWN[wanted.name]).main(rest, as_json=wanted.json)
    return code
