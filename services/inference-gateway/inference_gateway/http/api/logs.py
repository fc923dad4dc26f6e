"""What workloads printed: placement's, asked of their nodes."""

import asyncio
import time

from litestar import Controller, get
from litestar.params import FromPath
from mesh_contracts import placement

from inference_gateway.http.api.asking import AnyRequest, Asking

WITHIN_S = 6.0
"""So long a node may take to tell; then what was there before is answered."""
ENDED_WITHIN_S = 2.0
"""The same of a workload that has ended: its node's last word of it may be on its way."""
LOOK_EVERY_S = 0.15


class Workloads(Controller):
    """Replicas of endpoints and members of jobs, each by its id."""

    path = "/workloads"
    tags = ["placement"]  # noqa: RUF012 - the framework's way

    @get("/{workload:str}/log")
    async def log(self, request: AnyRequest, asker: Asking, workload: FromPath[str]) -> placement.Log:
        """Return the end of what a workload printed; of one that has ended, what its node last told of it."""
        wished: placement.LogWished = await asker(request, placement.WishLog, workload=workload)
        began = time.monotonic()
        while True:
            found: placement.Log = await asker(request, placement.ReadLog, workload=workload)
            told = found.number is not None and (found.ended or found.number >= wished.number)
            within_s = ENDED_WITHIN_S if found.ended else WITHIN_S
            if told or time.monotonic() - began > within_s:
                return found
            await asyncio.sleep(LOOK_EVERY_S)
