"""What a quota or the calendar lacks for a wish, in words."""

from mesh_contracts.placement import Reason

from placement.domain.engine.notice import Short

UNITS = {"domains": "NVLink domains", "nodes": "nodes", "time": "ms"}


def short_of(short: Short) -> Reason:
    """Return what is lacking, who holds most of it, and what helps."""
    unit = UNITS.get(short.code, "thousandths of GPUs")
    holders = ", ".join(f"{name} has {held}" for name, held in short.holders)
    return Reason(
        code=f"quota_{short.code}",
        detail=f"{short.name}: {short.have} of {short.want} {unit}{holders and f' ({holders})'}",
        unblock="wait until others end" if short.ever else "have an operator raise the quota",
    )
