"""What workloads are run with here; of a member of a job its command, and all it needs to find the others."""

import shutil
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from mesh_contracts.placement import MemberSpec, WorkloadSpec

from node_agent.runtimes import containers
from node_agent.runtimes.surroundings import NotServed, clean, visible

Runtime = Literal["off", "process", "podman"]


class Runs(msgspec.Struct, frozen=True, kw_only=True):
    """What runs the members of jobs here, and vLLM: the command ``vllm``, in the image ``vllm_image`` where one is named.

    ``more`` are words of the operator's for each ``podman run``.
    """

    runtime: Runtime
    more: tuple[str, ...] = ()
    vllm: tuple[str, ...] = ()
    vllm_image: str = ""


def program(spec: MemberSpec, runs: Runs) -> list[str]:
    """Return a member's command line. Raises ``NotServed`` where this node cannot run it.

    The runtime ``process`` has no images: the words of the command are run on the server itself, which is
    for a laptop and for servers that one tenant has alone. With ``podman`` the member is a container of its
    image, with its devices by CDI (``nvidia.com/gpu=<UUID>``), and its CPU and memory limited.
    """
    match runs.runtime:
        case "process":
            return _process(spec)
        case "podman":
            return _podman(spec, runs.more)
    raise NotServed(
        "this node runs no jobs: start its agent with AGENT_JOBS=podman, or AGENT_JOBS=process to have commands"
        " run on the server itself"
    )


def container(spec: WorkloadSpec | MemberSpec, runs: Runs) -> str:
    """Return the name of a workload's container; empty where it has none."""
    if isinstance(spec, MemberSpec):
        contained = runs.runtime == "podman"
    else:
        contained = spec.engine.kind == "vllm" and bool(runs.vllm_image)
    return containers.name_of(spec.workload_id) if contained else ""


def environment(spec: MemberSpec, ours: Mapping[str, str]) -> dict[str, str]:
    """Return a member's environment: its own, and where and who it is, as torch.distributed reads it.

    A member is one process with all its devices; what it starts on them itself is its own.
    """
    return {**clean(ours), **_own(spec)}


def _own(spec: MemberSpec) -> dict[str, str]:
    host, _, port = (spec.rendezvous or "").rpartition(":")
    meeting = {"MASTER_ADDR": host, "MASTER_PORT": port} if host else {}
    return {
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


def _process(spec: MemberSpec) -> list[str]:
    command = spec.command
    if command is None or not command.argv:
        raise NotServed(
            "the process runtime has no images: submit the job with the words of its command (--command)"
        )
    found = shutil.which(command.argv[0], path=command.env.get("PATH"))
    if found is None:
        raise NotServed(f"there is no program {command.argv[0]!r} on this server")
    return [found, *command.argv[1:]]


def _podman(spec: MemberSpec, more: Sequence[str]) -> list[str]:
    command = spec.command
    assert command is not None, "a job has a command"
    containers.check_image(command.image)
    run = containers.run(
        spec.workload_id,
        resources=spec.resources,
        devices=spec.devices,
        known=_own(spec),
        more=more,
    )
    # What follows is no option of podman's, whatever a tenant has written there.
    return [*run, "--", command.image, *command.argv]
