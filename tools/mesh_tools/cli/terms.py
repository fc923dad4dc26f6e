"""What may be said of where something goes: its size, how near its members are, with whom, for what."""

import argparse
from typing import Any

from mesh_tools.cli.door import Door
from mesh_tools.cli.verbs import argument

LEVELS = ["node", "nvlink", "rack", "leaf", "rail", "pdu", "row", "hall", "site"]

PROJECT = argument("--project", "whose it is (your key's project; an operator's: demo)")
SHAPE = (
    argument("--gpus", "whole GPUs each", type=int, default=0),
    argument("--gpu-milli", "thousandths of one GPU each", type=int, default=0),
    argument("--mig", "a MIG instance each, by its profile, like 3g.40gb"),
    argument("--gpu-model", "of which model"),
    argument("--memory-mib", "memory each (256)", type=int, default=256),
    argument("--cpu-milli", "thousandths of a CPU each", type=int, default=0),
    argument("--jurisdiction", "where the data may be; may be repeated (FR)", action="append"),
)
NEAR = (
    argument("--near", "all members in one part of the site of this level", choices=LEVELS),
    argument("--prefer", "near where there is room, else anywhere", action="store_true"),
    argument("--segment", "so many members in a row in one NVLink domain", type=int, default=1),
    argument("--assurance", "what the place must be certified for; may be repeated", action="append"),
    argument("--priority", "what it is worth (100)", type=int, default=100),
)
ISOLATION = argument(
    "--isolation",
    "what nobody else may share: none (default), node, nvlink or rack",
    default="none",
    choices=["none", "node", "nvlink", "rack"],
)


def project(wanted: argparse.Namespace, mesh: Door) -> dict[str, str]:
    """Return whose what is made is to be; nothing where that is the key's project anyway."""
    named = wanted.project or ("" if mesh.opens_one_project else "demo")
    return {"project": named} if named else {}


def shape(wanted: argparse.Namespace) -> dict[str, Any]:
    """Return what each replica or member takes, and where it may be."""
    resources = {"gpus": wanted.gpus, "gpu_milli": wanted.gpu_milli, "memory_mib": wanted.memory_mib}
    if wanted.mig:
        resources["mig"] = wanted.mig
    if wanted.cpu_milli:
        resources["cpu_milli"] = wanted.cpu_milli
    if wanted.gpu_model:
        resources["gpu_model"] = wanted.gpu_model
    return {"resources": resources, "residency": residency(wanted)}


def residency(wanted: argparse.Namespace) -> dict[str, Any]:
    """Return where the data may be."""
    return {"jurisdictions": wanted.jurisdiction or ["FR"]}


def terms(wanted: argparse.Namespace) -> dict[str, Any]:
    """Return how near members must be and what it is worth; what is not said is left out."""
    near: dict[str, Any] = {}
    if wanted.near:
        near["level"] = wanted.near
    if wanted.prefer:
        near["required"] = False
    if wanted.segment != 1:
        near["segment"] = wanted.segment
    said: dict[str, Any] = {"near": near} if near else {}
    if wanted.assurance:
        said["assurances"] = wanted.assurance
    if wanted.priority != 100:
        said["priority"] = wanted.priority
    return said
