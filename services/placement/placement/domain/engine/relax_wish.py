"""What the asker can give up: how little of it would do, and the wish without it.

Each function ``least_…`` is exact for a wish of one member.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from msgspec.structs import replace

from placement.domain.engine.mig import GEOMETRIES, smaller
from placement.domain.engine.power import ENDLESS
from placement.domain.engine.site import Ints
from placement.domain.engine.size import MILLI_PER_GPU, Size, Terms
from placement.domain.engine.wish import Relaxation, Wish

if TYPE_CHECKING:
    from placement.domain.engine.engine import Engine

WIDER = {"rack": ("nvlink", "node", ""), "nvlink": ("node", ""), "node": ("",), "": ()}
"""Isolation that is less than another, the nearest first."""


class Lack(NamedTuple):
    """A wish, the rows that lack nothing but what one kind of change lifts, and what each of them lacks."""

    engine: "Engine"
    wish: Wish
    rows: Ints
    fails: Ints


def least_cpu(lack: Lack) -> Relaxation | None:
    """Return how much less CPU would do."""
    return _less("cpu", lack.wish.size.cpu_milli, int(lack.engine.site.cpu[lack.rows].max()))


def least_memory(lack: Lack) -> Relaxation | None:
    """Return how much less memory would do."""
    return _less("memory", lack.wish.size.memory_mib, int(lack.engine.site.memory[lack.rows].max()))


def least_model(lack: Lack) -> Relaxation | None:
    """Return the model of the first node whose GPUs have a name."""
    names = (lack.engine.site.specs[row].model for row in lack.rows.tolist())
    return next((Relaxation("gpu_model", 1, (name,)) for name in names if name), None)


def least_milli(lack: Lack) -> Relaxation | None:
    """Return how much smaller a share would do; a share also does for who asked for one GPU.

    It comes on a card that is awake: had an idle one done, with the watts it takes, so had what was asked for.
    """
    size = lack.wish.size
    if not (size.gpu_milli or size.gpus == 1):
        return None
    site, power, rows = lack.engine.site, lack.engine.power, lack.rows
    if power.capped:
        rows = rows[power.room(rows) >= 0]
    idle = site.whole[rows] > 0
    have = site.most[rows[~idle]].max(initial=0)
    if idle.any():
        free = site.free[rows[idle]]
        have = max(have, np.where(free < MILLI_PER_GPU, free, 0).max())
    return _less("gpu_milli", size.milli, int(have))


def least_gpus(lack: Lack) -> Relaxation | None:
    """Return how many GPUs fewer would do: what is free on one node, and has its watts."""
    size, site = lack.wish.size, lack.engine.site
    if size.gpus < 2:
        return None
    have = site.whole[lack.rows]
    if lack.engine.power.capped:
        each = site.gpu_w[lack.rows]
        room = lack.engine.power.room(lack.rows)
        powered = np.where(each > 0, room // np.maximum(each, 1), np.where(room >= 0, ENDLESS, 0))
        have = np.minimum(have, powered)
    return _less("gpus", size.gpus, int(have.max()))


def least_mig(lack: Lack) -> Relaxation | None:
    """Return the largest smaller instance that would do."""
    engine, wish = lack.engine, lack.wish
    if not wish.size.mig or not engine.site.any_mig:
        return None
    there = {
        name
        for number in set(engine.site.geometry[lack.rows].tolist())
        for name in GEOMETRIES[number].profiles
    }
    for less, profile in smaller(wish.size.mig):
        size = replace(wish.size, mig=profile)
        if profile in there and (engine.chooser.lacks(size, wish.terms, lack.rows) == 0).any():
            return Relaxation("mig", less, (profile,))
    return None


def least_isolation(lack: Lack) -> Relaxation | None:
    """Return the nearest isolation that would do."""
    for steps, (part, terms) in enumerate(_less_isolated(lack.wish.terms), 1):
        if lack.engine.tenancy.apart(terms)[lack.rows].any():
            return Relaxation("isolation", steps, (part,) if part else ())
    return None


def least_assurance(lack: Lack) -> Relaxation | None:
    """Return the fewest assurances that would have to go: those that one node lacks."""
    wanted = tuple(dict.fromkeys(lack.wish.terms.assurances))
    codes = [lack.engine.site.assurances.get(name, -1) for name in wanted]
    has = lack.engine.site.assurance[lack.rows]
    lacks = np.array([(has >> code) & 1 == 0 if code >= 0 else has >= 0 for code in codes])
    row = int(lacks.sum(0).argmin())
    names = tuple(name for name, lack in zip(wanted, lacks[:, row].tolist(), strict=True) if lack)
    return Relaxation("assurance", len(names), names)


def least_jurisdiction(lack: Lack) -> Relaxation | None:
    """Return the jurisdiction of the first node that has one."""
    names = (lack.engine.site.specs[row].jurisdiction for row in lack.rows.tolist())
    return next((Relaxation("jurisdiction", 1, (name,)) for name in names if name), None)


def wish_without(wish: Wish, relaxation: Relaxation) -> Wish:
    """Return the wish with that much given up."""
    terms, less, names = wish.terms, relaxation.amount, relaxation.names
    members = wish.members
    match relaxation.kind:
        case "members":
            members -= less
        case "isolation":
            terms = list(_less_isolated(terms))[less - 1][1]
        case "assurance":
            stays = tuple(name for name in terms.assurances if name not in names)
            terms = replace(terms, assurances=stays)
        case "jurisdiction":
            terms = replace(terms, jurisdictions=terms.jurisdictions + names)
    return replace(wish, size=_size_without(wish.size, relaxation), terms=terms, members=members)


def _size_without(size: Size, relaxation: Relaxation) -> Size:
    less, names = relaxation.amount, relaxation.names
    match relaxation.kind:
        case "cpu":
            size = replace(size, cpu_milli=size.cpu_milli - less)
        case "memory":
            size = replace(size, memory_mib=size.memory_mib - less)
        case "gpu_model":
            size = replace(size, models=size.models + names)
        case "gpu_milli":
            size = replace(size, gpus=0, gpu_milli=size.milli - less)
        case "gpus":
            size = replace(size, gpus=size.gpus - less)
        case "mig":
            size = replace(size, mig=names[0])
    return size


def most(wish: Wish, kind: str) -> int:
    """Return the largest amount that a wish can be relaxed by, of a kind that is a number; else 0."""
    size = wish.size
    amounts = {
        "members": wish.members - 1,
        "cpu": size.cpu_milli - 1,
        "memory": size.memory_mib - 1,
        "gpu_milli": size.milli - 1 if size.gpu_milli or size.gpus == 1 else 0,
        "gpus": size.gpus - 1,
        "isolation": len(WIDER[wish.terms.isolation]),
    }
    return max(0, amounts.get(kind, 0))


def _less(kind: str, wants: int, have: int) -> Relaxation | None:
    """Return how much less has to be asked for where so much is there; ``None`` where it is nothing."""
    return Relaxation(kind, wants - have) if 1 <= have < wants else None


def _less_isolated(terms: Terms) -> Iterator[tuple[str, Terms]]:
    for part in WIDER[terms.isolation]:
        yield part, replace(terms, isolation=part)
