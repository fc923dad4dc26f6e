"""What a child of ours gets: a clean environment, the devices that are its own, and nothing that is secret."""

from collections.abc import Mapping, Sequence

PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
"""All that a child gets of our own environment."""

REAL = ("GPU-", "MIG-")
"""How the driver's names of devices begin; those of rehearsals begin otherwise."""


class NotServed(Exception):
    """This node cannot run that workload; the message says why, and what it can run."""


def clean(ours: Mapping[str, str]) -> dict[str, str]:
    """Return the part of our environment that a child may know: nothing that is secret."""
    return {name: ours[name] for name in PASSED_ON if name in ours}


def visible(devices: Sequence[str]) -> dict[str, str]:
    """Return what has CUDA see some devices, by their UUIDs, and no other; one that is rehearsed is not there."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(one for one in devices if one.startswith(REAL))}
