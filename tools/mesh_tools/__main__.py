"""``mesh``: finds the command and hands over; imports what that command needs and no more."""

import errno
import io
import os
import sys
from importlib import import_module

COMMANDS = {
    "up": ("mesh_tools.up", "the whole mesh on this machine"),
    "demo": ("mesh_tools.demo", "the whole mesh in a fresh folder, and its story, each step proved"),
    "check": ("mesh_tools.check", "the whole gate: lint, types, rules, tests"),
    "bench": ("mesh_tools.bench", "a reproducible benchmark: bench NAME [--json]"),
    "simulate": (
        "mesh_tools.simulate",
        "thousands of agents against the real services: simulate fleet",
    ),
    "tail": ("mesh_tools.tail", "watch facts go by"),
    "trace": ("mesh_tools.trace", "one request's spans as a tree"),
    "receipt": ("mesh_tools.cli.receipts", "receipt verify FILE: is a signed receipt true?"),
    "freeze": ("mesh_tools.freeze", "write the contracts' schemas down"),
    "lock": ("mesh_tools.lock", "resolve anew and write requirements.lock"),
    "run": ("mesh_tools.run", "one program of the mesh, in the foreground"),
    "env": ("mesh_tools.cli", 'addresses and key for a shell: eval "$(./mesh env)"'),
    "org": ("mesh_tools.cli", "organizations: list, create"),
    "project": ("mesh_tools.cli", "projects: list, create"),
    "key": ("mesh_tools.cli", "API keys: list, create, revoke"),
    "join-token": ("mesh_tools.cli", "with which nodes enrol: list, create"),
    "node": (
        "mesh_tools.cli",
        "nodes: list, get, check, cordon, drain, return; break and mend rehearsals",
    ),
    "endpoint": ("mesh_tools.cli", "models served: list, get, create, scale, delete, explain"),
    "job": ("mesh_tools.cli", "gangs that run to their end: list, get, submit, cancel"),
    "lease": ("mesh_tools.cli", "whole servers for one tenant: list, get, request, release"),
    "quota": ("mesh_tools.cli", "what tenants are promised of the GPUs: list, set"),
    "cap": ("mesh_tools.cli", "what racks, PDUs, rows and halls may draw: list, set"),
    "site": (
        "mesh_tools.cli",
        "what a site offers, holds and draws, when it is worked on: list, get, maintain",
    ),
    "request": ("mesh_tools.cli", "one request explained"),
    "usage": ("mesh_tools.cli", "tokens and cost by project and model"),
    "price": ("mesh_tools.cli", "the price book"),
    "budget": ("mesh_tools.cli", "what may be spent, and what is: list, set, delete; holders, release"),
    "limit": ("mesh_tools.cli", "what may be asked for in a minute, and at once: list, set, delete"),
    "carbon": ("mesh_tools.cli", "energy and carbon; carbon receipt ID, carbon intensity"),
    "events": ("mesh_tools.cli", "the event stream, resumable"),
    "dead-letter": ("mesh_tools.cli", "facts that could not be handled: list, redrive"),
}
NOT_YET = {
    "audit": "the audit chain",
    "apply": "plans from a file",
    "invoice": "invoices",
    "console": "the console",
}
"""What the design names and this version does not do."""


def usage() -> str:
    """Return the list of commands."""
    lines = [f"  {name:12} {what}" for name, (_, what) in COMMANDS.items()]
    return "usage: mesh COMMAND [OPTIONS]   (mesh COMMAND --help says more)\n\n" + "\n".join(lines)


def main() -> int:
    """Run one command; return the exit code (2 for a wrong call)."""
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = run(name, arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has seen enough (`mesh usage | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as fault:
        if fault.errno != errno.ENOSPC:
            raise
        print(
            f"mesh {name}: {fault.strerror}: what there was to say or write is not whole",
            file=sys.stderr,
        )
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def run(name: str, arguments: list[str]) -> int:
    """Run a command by its name; return its exit code."""
    if name in {"-h", "--help", "help"}:
        print(usage())
        return 0
    try:
        "".join((name, *arguments)).encode()
    except UnicodeEncodeError:
        print("mesh: an argument is not UTF-8: names and paths are", file=sys.stderr)
        return 2
    if name in NOT_YET:
        print(f"mesh {name}: {NOT_YET[name]} are not there yet in this version", file=sys.stderr)
        return 2
    if name not in COMMANDS:
        print(f"mesh: there is no command {name!r}; `mesh --help` lists them", file=sys.stderr)
        return 2
    module = COMMANDS[name][0]
    try:
        found = import_module(module)
    except ModuleNotFoundError as fault:
        if fault.name != module:
            raise
        print(f"mesh {name}: not there yet in this version", file=sys.stderr)
        return 2
    code: int = found.main([name, *arguments] if module == "mesh_tools.cli" else arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
