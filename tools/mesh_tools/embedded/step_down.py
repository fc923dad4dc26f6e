"""Run a program that refuses to be root, as nobody: ``step_down.py <signal> <program> <argument>…``.

A file of its own, run by a bare interpreter and replaced by the program, because changing the
user between fork and exec of a process with threads may hang it. It imports the standard
library only. The program is told ``<signal>`` where the process that started it dies; started as
an ordinary user, that is all it does.

``CAP_DAC_OVERRIDE`` stays with the program where that is possible: its files often stand in a
folder (a root's home, a private checkout) that nobody may not pass through.
"""

import ctypes
import os
import sys

NOBODY = 65534
CAP_DAC_OVERRIDE = 1
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522


def become_nobody() -> None:
    """Give up being root, but for passing through folders."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    # Without it access(2) leaves capabilities out for whoever is not root, and initdb asks by it
    # whether it may run the programs beside it.
    libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    bit = 1 << CAP_DAC_OVERRIDE
    sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    if libc.capset(header, sets) == 0:
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def main(arguments: list[str]) -> None:
    """Become nobody where needed, ask to be told of the parent's end, and become the program."""
    parent = os.getppid()
    if os.geteuid() == 0:
        become_nobody()
    # After the change of user, which would forget it.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(arguments[0]), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(arguments[1], arguments[1:])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
