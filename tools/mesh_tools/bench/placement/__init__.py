"""``mesh bench placement``: how well, how fast and how safely the engine fills a site."""

from mesh_tools.bench.placement.command import main

__all__ = ["main"]
