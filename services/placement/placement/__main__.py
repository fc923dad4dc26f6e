"""Run placement: ``python -m placement``."""

import uvloop
from meshkit.config import StoreSettings, load

from placement.app import assemble


def main() -> None:
    """Serve until told to stop."""
    uvloop.run(assemble(load(StoreSettings)).run())


if __name__ == "__main__":
    main()
