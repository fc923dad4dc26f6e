"""A site of a few racks, and the tenants who ask for it."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from mesh_contracts.ask import Principal
from mesh_contracts.identity import ProjectAdmitted
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshkit.testing import envelope, test_id

from tests.adapters.any_kept import World
from tests.adapters.fleet import Node
from tests.adapters.roads import tell
from tests.adapters.standby import SITE

CALLERS, NODES, GPUS = 16, 24, 4
RACK, DOMAIN, PDU = 4, 2, 12
"""Nodes of a rack, of an NVLink domain, on a PDU."""
IDLE_W, GPU_W = 100, 50
FULL_W = IDLE_W + GPUS * GPU_W
TENANTS = (("acme", "demo"), ("acme", "other"), ("umbra", "one"), ("umbra", "two"))


async def build(bus: Bus) -> list[Node]:
    """Return the site's nodes, once they and the tenants are told of."""
    for organization, name in TENANTS:
        project = test_id("project", f"{organization}/{name}")
        born = envelope(project, organization=test_id("organization", organization), project=project)
        await tell(bus, ProjectAdmitted(**born, name=name, organization_name=organization))
    nodes = [_node(bus, number) for number in range(NODES)]
    await asyncio.gather(*(one.join() for one in nodes))
    return nodes


def world(nodes: Sequence[Node], within_s: float) -> World:
    """Return what there is to ask about."""
    until = SystemClock().now() + timedelta(seconds=within_s, hours=1)
    parts = [("rack", f"r{one}", RACK * FULL_W) for one in range(NODES // RACK)]
    parts += [("pdu", f"p{one}", PDU * FULL_W) for one in range(NODES // PDU)]
    parts.append(("site", SITE, NODES * FULL_W))
    tenants = []
    for organization, name in TENANTS:
        project = test_id("project", f"{organization}/{name}")
        who = Principal(
            principal_id=f"{organization}/{name}",
            role="project",
            organization=test_id("organization", organization),
            project=project,
            expires_at=until,
        )
        tenants.append((who, project))
    admin = Principal(principal_id="operator", role="admin", expires_at=until)
    organizations = sorted({organization for organization, _ in TENANTS})
    return World([one.name for one in nodes], parts, tenants, organizations, admin, NODES * GPUS)


def _node(bus: Bus, number: int) -> Node:
    parts = {"rack": f"r{number // RACK}", "nvlink": f"v{number // DOMAIN}", "pdu": f"p{number // PDU}"}
    return Node(
        bus,
        f"n{number}",
        gpus=GPUS,
        jurisdiction="DE" if number % 3 == 2 else "FR",
        place=parts,
        assurances=["hds"] if number % 2 else [],
        idle_w=IDLE_W,
        gpu_w=GPU_W,
    )
