"""Who makes way where watts are short: few, and near."""

import pytest
from placement.domain.engine.size import Size
from placement.domain.engine.wish import Capped, Found, Seat

from tests.domain.placement_sites import node, placed, site, wish

pytestmark = pytest.mark.slow


def test_room_that_is_dark_does_not_have_half_a_hall_make_way() -> None:
    """Idle GPUs under a tight cap look free; who draws its watts is near, and nobody elsewhere is of use."""
    tight = [node(f"t{n}", place={"pdu": "tight"}) for n in range(4)]
    wide = [node(f"w{n:02d}", place={"pdu": "wide"}) for n in range(12)]
    engine, share = site(*tight, *wide), Size(gpu_milli=250)
    engine.apply(Capped(level="pdu", domain="tight", watts=4 * 500 + 24 * 700))
    for number in range(24):
        few = wish(f"t{number}", share, preemptible=True, restart_cost=20)
        seat = Seat(f"t{number % 4}", (number // 4,), 250)
        engine.apply(Found(wish=few, seats=(seat,), at=0))
    for number in range(12 * 8 * 4):
        many = wish(f"w{number}", share, preemptible=True, restart_cost=1 + number * 5 % 7)
        seat = Seat(f"w{number % 12:02d}", (number // 12 % 8,), 250)
        engine.apply(Found(wish=many, seats=(seat,), at=0))
    dear = placed(engine, wish("dear", Size(gpus=8), priority=100))
    assert 0 < len(dear.preempted) <= 8 * 4
    assert engine.power.breaches() == []
