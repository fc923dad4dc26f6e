"""Run placement: ``python -m placement``."""

import uvloop
from meshkit.config import load

from placement.app import PlacementSettings, assemble


def main() -> None:
    """Serve until told to stop."""
    uvloop.run(assemble(load(PlacementSettings)).run())


if __name__ == "__main__":
    main()
