"""What to do so that what runs is what should run. Called again and again, in any state."""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from mesh_contracts.placement import MemberSpec, WorkloadSpec
from mesh_contracts.units import WorkloadId

Phase = Literal["starting", "ready", "stopping", "stopped", "failed", "interrupted"]
"""Where a workload stands here. ``interrupted``: the machine's own end took it, not a fault of its own."""


Spec = WorkloadSpec | MemberSpec
"""What may be wished for: a replica of an endpoint, or a member of a job."""


class Start(msgspec.Struct, frozen=True):
    """Run this; where it ran before, run it anew."""

    spec: Spec


class Stop(msgspec.Struct, frozen=True):
    """End this: it is not wished for any more."""

    workload_id: WorkloadId


class Forget(msgspec.Struct, frozen=True):
    """Nothing of this runs and nobody wishes for it: let go of what is kept."""

    workload_id: WorkloadId


Action = Start | Stop | Forget


def reconcile(wanted: Sequence[Spec], here: Mapping[WorkloadId, Phase]) -> list[Action]:
    """Return what to do, ends before starts: what ends makes room.

    What runs and is wished for is left alone, also across a restart of the agent. What failed is
    not tried again: placement was told, and wishes for a successor under another id. An engine that the
    machine's end took is started anew.
    """
    ids = {spec.workload_id for spec in wanted}
    assert len(ids) == len(wanted), "a workload is wished for twice"
    actions: list[Action] = []
    for workload_id, phase in sorted(here.items()):
        if workload_id in ids:
            continue
        if phase in {"starting", "ready"}:
            actions.append(Stop(workload_id))
        elif phase in {"stopped", "failed", "interrupted"}:
            actions.append(Forget(workload_id))
    actions += [
        Start(spec) for spec in wanted if here.get(spec.workload_id, "interrupted") == "interrupted"
    ]
    return actions


def whole(spec: Spec) -> bool:
    """Tell whether the devices of a workload are to be its alone."""
    return spec.resources is not None and spec.resources.gpus > 0


def newer(known: tuple[int, int], seen: tuple[int, int]) -> bool:
    """Tell whether a wish of (writer's epoch, stream sequence) ``seen`` replaces the ``known`` one.

    A writer that has been succeeded is not listened to, however late its words arrive.
    """
    return seen > known


def check_is_due(last: int | None, wished: int) -> bool:
    """Tell whether a health check is due: none was run yet, or one is wished for above the last."""
    return last is None or wished > last
