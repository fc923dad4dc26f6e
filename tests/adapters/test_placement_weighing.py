"""What decisions weigh beside what is asked: it is told when it has changed, and not too often."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

from meshkit.testing import FrozenClock
from placement.domain.engine.size import Size
from placement.domain.engine.wish import Expected
from placement.domain.usual import ASKED_LEAST
from placement.weighing import MIX_EVERY_S, Weighing

from tests.domain.placement_sites import node, site

WHOLE = Size(gpus=1)


def test_what_is_usually_asked_for_is_told_once_enough_was_and_not_again_at_once() -> None:
    clock, signals = FrozenClock(), SimpleNamespace(values={})
    weighing = Weighing("fr-idf-1", clock, lambda: signals)
    held: Any = SimpleNamespace(engine_if_any=site(node("n0")), asked=Counter[Size]())

    def told(asked: int) -> list[Any]:
        held.asked[WHOLE] += asked
        return weighing.news(held, 0, compares=False)

    assert told(ASKED_LEAST - 1) == []
    assert told(1) == [Expected(sizes=[(WHOLE, ASKED_LEAST)])]
    assert not held.asked
    clock.move(MIX_EVERY_S - 1)
    assert told(5 * ASKED_LEAST) == []
    clock.move(1)
    assert told(0) == [Expected(sizes=[(WHOLE, 5 * ASKED_LEAST)])]
