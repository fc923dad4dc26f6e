"""``mesh simulate NAME``: agents by the thousand against the real services."""

import argparse
import sys
from importlib import import_module

KNOWN = {"fleet": "mesh_tools.simulate.fleet"}
NOT_YET = ("week",)


def main(argv: list[str]) -> int:
    """Run one simulation; return its exit code."""
    parser = argparse.ArgumentParser(prog="mesh simulate", description="Agents against real services.")
    parser.add_argument("name", choices=(*KNOWN, *NOT_YET))
    wanted, rest = parser.parse_known_args(argv[:1] if argv and not argv[0].startswith("-") else argv)
    if wanted.name in NOT_YET:
        print(f"mesh simulate {wanted.name}: not there yet in this version", file=sys.stderr)
        return 2
    code: int = import_module(KNOWN[wanted.name]).main([*rest, *argv[1:]])
    return code
