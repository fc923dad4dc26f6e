"""How a noun's verbs are declared and found."""

import argparse
from collections.abc import Callable
from typing import Any

from mesh_tools.cli import where
from mesh_tools.cli.door import Door

Act = Callable[[argparse.Namespace], None]
Argument = tuple[str, dict[str, Any]]


class Verbs:
    """The verbs of one noun. ``default`` is meant where none is named."""

    def __init__(self, noun: str, default: str) -> None:
        self.default = default
        self.parser = argparse.ArgumentParser(prog=f"mesh {noun}")
        self._verbs = self.parser.add_subparsers(metavar="VERB", required=True)
        self._takes: dict[str, bool] = {}

    def add(self, name: str, act: Act, help_: str, *arguments: Argument) -> None:
        """Declare a verb: what does it, and its arguments."""
        verb = self._verbs.add_parser(name, help=help_, description=help_)
        for flag, options in arguments:
            verb.add_argument(flag, **options)
        verb.add_argument("--json", action="store_true", help="what a program reads")
        verb.add_argument("--data", help="the data folder of a running `mesh up` (.mesh)")
        verb.set_defaults(act=act)
        self._takes[name] = any(not flag.startswith("-") for flag, _ in arguments)

    def parse(self, argv: list[str]) -> argparse.Namespace:
        """Return the parsed arguments; exits with 2 and the usage where they are wrong."""
        named = bool(argv) and (argv[0] in self._takes or argv[0] in {"-h", "--help"})
        implied = not argv or argv[0].startswith("-") or self._takes[self.default]
        if not named and implied:
            argv = [self.default, *argv]
        return self.parser.parse_args(argv)


def door(wanted: argparse.Namespace) -> Door:
    """Return the door of the mesh that is meant. Raises ``NotFound``."""
    return Door(*where.door(wanted.data))


def argument(name: str, help_: str, **options: Any) -> Argument:
    """Return an argument of a verb."""
    return name, {"help": help_, **options}
