"""A check in a process of its own, with a deadline: whatever hangs, the caller goes on.

The child is asked to stop (it does so between two slices), then killed; one that hangs in the
driver cannot even be reaped, and is left. What it had not said is ``inconclusive``.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from gpuprobe.verdict import CORDON, Check

ASKED_S = 1.0
"""So long a child that was asked to stop may take to say what it knows."""

KILLED_S = 1.0
"""So long a killed child is waited for."""

SAID_CHARS_MAX = 500


def run(arguments: Sequence[str], devices: Sequence[int], deadline_s: float) -> list[Check]:
    """Return the checks of ``python -m gpuprobe ARGUMENTS --json``, or why there are none."""
    child = subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-P", "-m", "gpuprobe", *arguments, "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    said, complained, late = b"", b"", True
    for within_s, then in ((deadline_s, signal.SIGTERM), (ASKED_S, signal.SIGKILL), (KILLED_S, None)):
        try:
            said, complained = child.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            if then is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, then)
        else:
            late = child.returncode == -signal.SIGKILL
            break
    if late:
        why = f"no verdict within {deadline_s:g} s, nor when asked to stop: the device or its driver hangs"
        return [_unjudged(device, why) for device in devices]
    try:
        return [Check(**one) for one in json.loads(said)["checks"]]
    except (ValueError, KeyError, TypeError):
        lines = complained.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        why = f"the check ended with status {child.returncode}: {lines[-1][:SAID_CHARS_MAX]}"
        return [_unjudged(device, why) for device in devices]


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
