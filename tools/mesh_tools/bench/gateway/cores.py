"""Which core does what: the gateway alone on the first; on a machine of two, all else on the other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec


class Cores(msgspec.Struct, frozen=True):
    """The cores of each part; a machine of four or more has one for each."""

    gateway: int
    mock: int
    load: int
    services: tuple[int, ...]
    """What ours needs besides the gateway: nats-server, Postgres, the other services."""


def choose(available: set[int]) -> Cores:
    """Share the cores out."""
    first, *more = sorted(available)
    others = more or [first]
    load = others[1] if len(others) > 1 else others[0]
    return Cores(gateway=first, mock=others[0], load=load, services=tuple(others[2:]) or (others[-1],))


@contextmanager
def started_on(*cores: int) -> Iterator[None]:
    """Give what is started within to these cores, from its first instruction on."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def move(pids: list[int], core: int) -> None:
    """Give running processes, with all their threads, to a core."""
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})
