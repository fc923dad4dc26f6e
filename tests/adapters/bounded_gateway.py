"""``python -m tests.adapters.bounded_gateway ACTIVE_MAX CONNECTIONS_MAX``: the gateway with bounds that are soon met."""

import asyncio
import sys

import uvloop
from inference_gateway import server
from inference_gateway.app import assemble
from inference_gateway.settings import GatewaySettings
from meshkit.config import load


async def main(active_max: int, connections_max: int) -> None:
    """Run the gateway until it is told to stop."""
    server.CONNECTIONS_MAX = connections_max
    server.allow_files()
    await assemble(load(GatewaySettings), active_max=active_max).run()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), int(sys.argv[2])))
