"""``mesh demo``: the whole mesh in a fresh folder, its story step by step, each step proved."""

from mesh_tools.demo.tell import main

__all__ = ["main"]
