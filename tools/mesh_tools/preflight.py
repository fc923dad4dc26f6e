"""What the machine must bring, looked at before anything starts. Standard library only."""

import ctypes
import platform
import sys

NEEDS_THE_ENGINE = ("up", "demo", "check")
"""Commands that start an engine."""


def missing() -> str | None:
    """Return what this machine lacks and what to do about it, in one line; nothing where all is there."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"the embedded parts exist for x86-64 Linux only, this is {platform.machine()} {sys.platform}"
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return "libgomp.so.1 is missing: install the package libgomp1 (Debian: apt install libgomp1; Fedora: dnf install libgomp)"
    return None
