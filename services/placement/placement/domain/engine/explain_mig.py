"""Instances in words: how many GPUs in MIG mode have one of a profile free, and whether any could."""

import numpy as np
from mesh_contracts.placement import Reason

from placement.domain.engine.mig import GEOMETRIES, table
from placement.domain.engine.site import Site
from placement.domain.engine.slices import at
from placement.domain.engine.wish import Wish

CODE = "mig"


def instances(site: Site, wish: Wish, *, placed: bool = False) -> list[Reason]:
    """Return how many GPUs in MIG mode have what is wished for free; nothing where no instance is.

    ``placed``: the one that was wished for is taken already.
    """
    profile = wish.size.mig
    if not profile:
        return []
    rows = site.every
    on = site.mig[rows] != 0
    having = np.array([profile in geometry.profiles for geometry in GEOMETRIES])
    able = on & having[site.geometry[rows]][:, None]
    free = on & (table(profile).fits.take(at(site, rows, site.slices[rows])) > 0)
    count, of = int(free.sum()), int(able.sum())
    detail = f"{count} of {_gpus(of)} in MIG mode {_have(count)} a free {profile}"
    if placed:
        detail = f"beside it {detail}"
    if not of:
        detail = f"{_gpus(int(on.sum()))} {_is(int(on.sum()))} in MIG mode, none of a model that has a {profile}"
        if not on.any():
            detail = "no GPU is in MIG mode"
    return [Reason(code=CODE, detail=detail, count=count)]


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
