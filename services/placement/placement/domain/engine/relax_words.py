"""The smallest relaxation in words."""

from collections.abc import Callable

from mesh_contracts.placement import Reason

from placement.domain.engine.relax_wish import wish_without
from placement.domain.engine.topology import domain_in_words
from placement.domain.engine.wish import Relaxation, Wish

CODE = "would_fit"
"""The code of the reason that says what would admit a wish."""
HIDDEN = "another workload"
"""What a workload is called before those who may not know whose work is there."""


def relaxation_reason(
    wish: Wish, relaxation: Relaxation, called: Callable[[str], str] = str, *, others: bool = True
) -> Reason:
    """Return what the change is and how to make it; ``count`` is its amount.

    ``called`` gives the name of a node by its id; ``others``: whether the reader may know whose work is there.
    """
    kind, amount = relaxation.kind, relaxation.amount
    name = ", ".join(relaxation.names)
    if kind in {"ready", "heard", "mig_mode"}:
        name = called(name)
    if kind == "workload" and not others:
        name = HIDDEN
    domain = domain_in_words(*relaxation.names) if kind == "power" else ""
    less = wish_without(wish, relaxation)
    size = less.size
    words = {
        "members": (
            f"with {_many(amount, 'member')} fewer: {less.members} of {wish.members}",
            f"ask for {_many(less.members, 'member')}",
        ),
        "cpu": (
            f"with {amount} milli of CPU less: {size.cpu_milli}",
            f"ask for resources.cpu_milli {size.cpu_milli}",
        ),
        "memory": (
            f"with {amount} MiB of memory less: {size.memory_mib}",
            f"ask for resources.memory_mib {size.memory_mib}",
        ),
        "gpu_model": (f"on a GPU of model {name}", f"let {name} do as well as resources.gpu_model"),
        "gpu_milli": (
            f"with {amount} milli of a GPU less: {size.gpu_milli}",
            f"ask for resources.gpu_milli {size.gpu_milli}",
        ),
        "gpus": (
            f"with {_many(amount, 'GPU')} fewer: {size.gpus}",
            f"ask for resources.gpus {size.gpus}",
        ),
        "mig": (f"as an instance {name}", f"ask for resources.mig {name}"),
        "isolation": (
            f"where it is alone only in its {name}" if name else "where others may be on its node",
            f"ask for isolation {name}" if name else "ask for no isolation",
        ),
        "assurance": (f"where {name} is not asked for", f"leave {name} out of residency.assurances"),
        "jurisdiction": (f"in {name}", f"add {name} to residency.jurisdictions"),
        "ready": (f"on {name}, once it takes work again", f"return {name} to service"),
        "heard": (
            f"on {name}, once it is heard of",
            f"see whether {name}, its agent and the network between run",
        ),
        "power": (
            f"with the cap of {domain} {amount} W higher",
            f"raise the cap of {domain} by {amount} W",
        ),
        "mig_mode": (
            f"with one of {name}'s idle GPUs in MIG mode",
            f"turn MIG mode on there (nvidia-smi -i GPU -mig 1), and start {name}'s agent anew",
        ),
        "workload": (f"once {name} has ended", f"end {name}, or wait until it ends"),
    }
    detail, unblock = words.get(kind, (f"with {kind} less by {amount}", f"ask for less {kind}"))
    return Reason(code=CODE, detail=f"it would fit {detail}", unblock=unblock, count=amount)


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
