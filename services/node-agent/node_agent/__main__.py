"""Run the agent: ``python -m node_agent``."""

import sys

import uvloop
from meshkit import config
from meshkit.errors import MeshError

from node_agent.app import assemble
from node_agent.settings import AgentSettings

if __name__ == "__main__":

    async def main() -> None:
        """Run until told to stop."""
        await assemble(config.load(AgentSettings)).run()

    try:
        uvloop.run(main())
    except MeshError as fault:
        sys.exit(f"node-agent: {fault}")
