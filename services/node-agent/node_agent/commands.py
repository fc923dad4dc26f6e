"""What a member of a job is started with: its command, and all it needs to find the others."""

import shutil
from collections.abc import Mapping

from mesh_contracts.placement import MemberSpec

from node_agent.runtimes.surroundings import NotServed, clean, visible


def program(spec: MemberSpec, runtime: str) -> list[str]:
    """Return a member's command line. Raises ``NotServed`` where this node cannot run it.

    The runtime ``process`` has no images: the words of the command are run on the server itself, which is
    for a laptop and for servers that one tenant has alone.
    """
    command = spec.command
    if runtime != "process":
        raise NotServed(
            "this node runs no jobs: start its agent with AGENT_JOBS=process to have commands run on the server itself"
        )
    if command is None or not command.argv:
        raise NotServed(
            "the process runtime has no images: submit the job with the words of its command (-- python train.py)"
        )
    found = shutil.which(command.argv[0], path=_path(command.env))
    if found is None:
        raise NotServed(f"there is no program {command.argv[0]!r} on this server")
    return [found, *command.argv[1:]]


def environment(spec: MemberSpec, ours: Mapping[str, str]) -> dict[str, str]:
    """Return a member's environment: its own, and where and who it is, as torch.distributed reads it.

    A member is one process with all its devices; what it starts on them itself is its own.
    """
    host, _, port = (spec.rendezvous or "").rpartition(":")
    meeting = {"MASTER_ADDR": host, "MASTER_PORT": port} if host else {}
    return {
        **clean(ours),
        **(spec.command.env if spec.command else {}),
        **visible(spec.devices),
        **meeting,
        "RANK": str(spec.number),
        "WORLD_SIZE": str(spec.members),
        "LOCAL_RANK": "0",
        "MESH_JOB_ID": spec.owner_id,
        "MESH_JOB_NAME": spec.name,
        "MESH_ATTEMPT": str(spec.attempt),
        "MESH_DEVICES": ",".join(spec.devices),
        "PYTHONUNBUFFERED": "1",
    }


def _path(env: Mapping[str, str]) -> str | None:
    return env.get("PATH")
