"""Run carbon-accounting: ``python -m carbon_accounting``."""

import uvloop
from meshkit.config import load

from carbon_accounting.app import CarbonSettings, assemble


def main() -> None:
    """Serve until told to stop."""
    uvloop.run(assemble(load(CarbonSettings)).run())


if __name__ == "__main__":
    main()
