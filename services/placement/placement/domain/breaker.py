"""The quarantine breaker: a wrong threshold in a health check must not empty a hall.

Failed checks take out at most ``SHARE`` % of a site's GPU nodes within ``WINDOW_S`` seconds, and at most
``MOST``: beyond both what fails is told and stays as it is, until a person has looked and re-armed it. Nodes
without GPUs are not counted; coming back to service is never held up.
"""

from typing import Final

import msgspec
from mesh_contracts.placement import Reason

from placement.domain.fleet import LEAVING, Server
from placement.domain.health import HELD, Turn

WINDOW_S: Final = 600
SHARE: Final = 10
MOST: Final = 50


def most(gpu_nodes: int) -> int:
    """Return how many of a site's GPU nodes may be taken out within the window: one at least."""
    return max(1, min(MOST, gpu_nodes * SHARE // 100))


def counts(server: Server, to: Turn) -> bool:
    """Tell whether a turn takes a GPU node out because of a check: those alone the breaker looks at."""
    return to.state == "cordoned" and server.state not in LEAVING and bool(server.cards)


def held(server: Server, to: Turn, tripped: int, allowed: int) -> Turn:
    """Return the turn of a node that failed its check while the breaker is open: it stays, and says why."""
    reason = Reason(
        code=HELD,
        detail=f"it failed its check, but {tripped} nodes did within {WINDOW_S // 60} minutes"
        f" and at most {allowed} are taken out unseen",
        unblock="see whether the check or the nodes are wrong, then POST /api/v1/sites/{site}:rearm",
    )
    return msgspec.structs.replace(to, state=server.state, reasons=(*to.reasons[:15], reason))
