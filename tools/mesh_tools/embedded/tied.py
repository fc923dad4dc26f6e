"""Run a program that ends with its parent: ``tied.py <signal> <parent> <program> <argument>…``.

A file of its own, run by a bare interpreter and replaced by the program: running Python between
fork and exec of a process with threads may hang it. It imports the standard library only.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def command(told: int, *program: str) -> list[str]:
    """Return what to start so that ``program`` gets signal ``told`` when this process ends."""
    return [
        sys.executable,
        "-I",
        "-S",
        __file__,
        str(int(told)),
        str(os.getpid()),
        *program,
    ]


def main(arguments: list[str]) -> None:
    """Ask to be told of the parent's end, and become the program."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(arguments[0]), 0, 0, 0)
    # It may have ended before we asked: then nobody will tell us.
    if os.getppid() != int(arguments[1]):
        sys.exit(1)
    os.execv(arguments[2], arguments[2:])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
