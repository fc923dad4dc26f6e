"""Servers that are leased, as placement wishes for them."""

from typing import Any

from mesh_contracts.placement import MemberSpec
from meshkit.testing import test_id


def leased(step: Any = "hold", of: str = "leased") -> MemberSpec:
    """Return one server of a lease, at a step; ``of`` tells leases apart."""
    return MemberSpec(
        workload_id=test_id("workload", of),
        kind="lease",
        owner_id=test_id("lease"),
        organization=test_id("organization"),
        project=test_id("project"),
        name="bare",
        number=0,
        members=1,
        devices=["rehearsal-n1-0"],
        step=step,
    )
