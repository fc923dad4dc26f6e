"""Run identity: ``python -m identity``."""

import sys

import uvloop
from meshkit import config
from meshkit.errors import MeshError

from identity.app import assemble
from identity.settings import IdentitySettings

if __name__ == "__main__":
    try:
        uvloop.run(assemble(config.load(IdentitySettings)).run())
    except MeshError as fault:
        sys.exit(f"identity: {fault}")
