"""``python -m inference_gateway``."""

import asyncio
import sys

import uvloop
from meshkit.config import load
from meshkit.errors import MeshError

from inference_gateway.app import assemble
from inference_gateway.server import allow_files
from inference_gateway.settings import GatewaySettings


async def main() -> None:
    """Run the gateway until it is told to stop."""
    allow_files()
    await assemble(load(GatewaySettings)).run()


if __name__ == "__main__":
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    except MeshError as fault:
        sys.exit(f"inference-gateway: {fault}")
