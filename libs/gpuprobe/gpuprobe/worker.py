"""A check in a process of its own, with a deadline: whatever hangs, the caller goes on.

The child is asked to stop (it does so between two slices), then killed; one that hangs in the
driver cannot even be reaped, and is left. What it had not said is ``inconclusive``. It is asked too
where the caller is told to stop, and killed by the kernel where the caller is gone: it stands in a
session of its own, and would work on for nobody.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from gpuprobe.probe import never
from gpuprobe.verdict import CORDON, Check

ASKED_S = 1.0
"""So long a child that was asked to stop may take to say what it knows."""

KILLED_S = 1.0
"""So long a killed child is waited for."""

LOOK_S = 0.05
"""So often the caller is asked whether it still wants to know."""

SAID_CHARS_MAX = 500
_DIE_WITH_PARENT = 1
"""The kernel's number (Linux) for: send me this signal once my parent ends."""


def run(
    arguments: Sequence[str],
    devices: Sequence[int],
    deadline_s: float,
    stop: Callable[[], bool] = never,
) -> list[Check]:
    """Return the checks of ``python -m gpuprobe ARGUMENTS --json``, or why there are none."""
    with_us = f"--with-parent={os.getpid()}"
    child = subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-P", "-m", "gpuprobe", *arguments, "--json", with_us],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    told = _told(child, deadline_s, stop)
    if told is None or child.returncode == -signal.SIGKILL:
        why = f"no verdict within {deadline_s:g} s, nor when asked to stop: the device or its driver hangs"
        return [_unjudged(device, why) for device in devices]
    said, complained = told
    try:
        return [Check(**one) for one in json.loads(said)["checks"]]
    except (ValueError, KeyError, TypeError):
        lines = complained.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        why = f"the check ended with status {child.returncode}: {lines[-1][:SAID_CHARS_MAX]}"
        return [_unjudged(device, why) for device in devices]


def end_with(parent: int) -> None:
    """Have the kernel kill this process once its parent ends, whatever either of them hangs in.

    Raises ``SystemExit`` where ``parent`` is gone already. Elsewhere than on Linux nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the process that began this check is gone")


def _told(
    child: subprocess.Popen[bytes], deadline_s: float, stop: Callable[[], bool]
) -> tuple[bytes, bytes] | None:
    """Return what the child said and complained of; ``None`` where it was not even to be killed.

    It is asked to stop past its deadline, or once ``stop`` says so, and killed where it does not.
    """
    for within_s, then in ((deadline_s, signal.SIGTERM), (ASKED_S, signal.SIGKILL), (KILLED_S, None)):
        until = time.monotonic() + within_s
        while True:
            left_s = max(0.0, until - time.monotonic())
            with contextlib.suppress(subprocess.TimeoutExpired):
                return child.communicate(timeout=min(LOOK_S, left_s))
            if left_s <= LOOK_S or (then is signal.SIGTERM and stop()):
                break
        if then is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, then)
    return None


def undeadlined(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without the deadline and the wish for JSON."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == "--deadline":
            skip = True
        elif argument != "--json" and not argument.startswith("--deadline="):
            kept.append(argument)
    return kept


def _unjudged(device: int, why: str) -> Check:
    return Check(
        name="worker",
        device=device,
        verdict="inconclusive",
        backend="cupy",
        took_ms=0,
        detail=why,
        action=CORDON,
    )
