"""The users' commands: ``mesh NOUN [VERB] …`` over the public HTTP API, and nothing else.

Standard library only and loaded by noun, so that each prints within 0.3 s.
"""

import sys
from importlib import import_module

MODULES = {
    "env": "mesh_tools.cli.tenants",
    "org": "mesh_tools.cli.tenants",
    "project": "mesh_tools.cli.tenants",
    "key": "mesh_tools.cli.tenants",
    "join-token": "mesh_tools.cli.tenants",
    "node": "mesh_tools.cli.fleet",
    "endpoint": "mesh_tools.cli.endpoints",
    "job": "mesh_tools.cli.work",
    "lease": "mesh_tools.cli.work",
    "quota": "mesh_tools.cli.sites",
    "cap": "mesh_tools.cli.sites",
    "site": "mesh_tools.cli.sites",
    "request": "mesh_tools.cli.ledgers",
    "usage": "mesh_tools.cli.ledgers",
    "price": "mesh_tools.cli.ledgers",
    "budget": "mesh_tools.cli.bounds",
    "limit": "mesh_tools.cli.bounds",
    "carbon": "mesh_tools.cli.ledgers",
    "events": "mesh_tools.cli.streams",
    "dead-letter": "mesh_tools.cli.streams",
}


def main(argv: list[str]) -> int:
    """Run one command, ``argv[0]`` being its noun; return the exit code."""
    from mesh_tools.cli.door import Refused  # noqa: PLC0415 only where a command runs
    from mesh_tools.cli.where import NotFound  # noqa: PLC0415

    noun = argv[0]
    wanted = import_module(MODULES[noun]).verbs(noun).parse(argv[1:])
    try:
        wanted.act(wanted)
    except (NotFound, Refused) as fault:
        print(f"mesh {noun}: {fault}", file=sys.stderr)
        return 1
    return 0
