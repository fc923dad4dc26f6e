"""Run metering: ``python -m metering``."""

import sys

import uvloop
from meshkit import config
from meshkit.errors import MeshError

from metering.app import assemble
from metering.settings import MeteringSettings

if __name__ == "__main__":
    try:
        uvloop.run(assemble(config.load(MeteringSettings)).run())
    except MeshError as fault:
        sys.exit(f"metering: {fault}")
