"""The memory a check may take: no more than it is told, or it says that it cannot be judged."""

import weakref
from typing import Any

import numpy as np
import pytest
from gpuprobe import bandwidth, pcie, peers_check, sram
from gpuprobe.fabric import HostFabric
from gpuprobe.on_numpy import TRAITS, NumpyBackend
from gpuprobe.probe import NoRoom, Probe, Setting, check

KIB = 2**10
MIB = 2**20
SMALL = 8 * KIB
"""Logs and sums: not what a cap is about."""


class Counted(NumpyBackend):
    """A device that knows how much of its memory is taken, and how much ever was at once."""

    def __init__(self, device: int = 0, free: int = 64 * MIB) -> None:
        super().__init__(device)
        self.free = free
        self.taken = self.most = 0

    def free_bytes(self) -> int:
        return self.free

    def _free(self, size: int) -> None:
        self.taken -= size

    def empty(self, count: int, dtype: Any) -> Any:
        array = np.zeros(count, dtype)
        self.taken += array.nbytes
        self.most = max(self.most, self.taken)
        weakref.finalize(array, self._free, array.nbytes)
        return array

    def put(self, host: Any) -> Any:
        there = self.empty(host.size, host.dtype).reshape(host.shape)
        there[...] = host
        return there


def capped(backend: NumpyBackend, cap: int) -> Setting:
    return Setting(backend=backend, seed=3, level="standard", memory_bytes_max=cap)


CAPPED: list[tuple[Probe, Any]] = [
    (pcie.PROBE, pcie.Size(40 * MIB, 1, both=True)),
    (bandwidth.PROBE, bandwidth.Size(40 * MIB, 2)),
]


@pytest.mark.parametrize(("probe", "size"), CAPPED, ids=lambda one: getattr(one, "name", ""))
def test_a_check_that_sends_takes_smaller_buffers_where_it_may_take_less(
    probe: Probe, size: Any
) -> None:
    backend = Counted()
    said = check(probe, capped(backend, 34 * MIB), size)
    assert said.verdict == "pass", said
    assert 32 * MIB <= backend.most <= 34 * MIB + SMALL


def test_a_link_is_not_judged_by_less_than_its_speed_can_be_told_from() -> None:
    backend = Counted()
    said = check(pcie.PROBE, capped(backend, 8 * MIB), pcie.Size(40 * MIB, 1))
    assert said.verdict == "inconclusive"
    assert "the check needs" in said.detail
    assert backend.most == 0


def test_the_l2_is_marched_over_whole_or_not_at_all() -> None:
    backend = Counted()
    part = int(TRAITS.l2_bytes * sram.L2_PART)
    said = check(sram.PROBE, capped(backend, part), sram.Size(1, 1, 2))
    assert said.verdict == "pass", said
    short = Counted()
    said = check(sram.PROBE, capped(short, part - 32), sram.Size(1, 1, 2))
    assert said.verdict == "inconclusive"
    assert "the check needs" in said.detail
    assert short.most < part // 2


def test_copies_to_peers_are_as_large_as_every_device_has_room_for() -> None:
    ours, small = Counted(0, free=512 * MIB), Counted(1, free=68 * MIB)
    fabric = HostFabric([ours, small])
    size = peers_check.Size(20 * MIB, 1)
    said = peers_check.run_over(capped(ours, 70 * MIB), size, fabric)
    assert said.verdict == "pass", said
    for backend in (ours, small):
        assert peers_check.LEAST_BYTES <= backend.most <= 68 * MIB


def test_copies_to_peers_are_not_judged_where_there_is_too_little_room() -> None:
    backends = [Counted(0, free=512 * MIB), Counted(1, free=512 * MIB)]
    with pytest.raises(NoRoom, match="the check needs"):
        peers_check.run_over(
            capped(backends[0], 16 * MIB), peers_check.Size(20 * MIB, 1), HostFabric([*backends])
        )
    assert all(backend.most == 0 for backend in backends)
