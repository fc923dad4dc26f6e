"""Who waits has a place in line, and is tried again as time passes, now and then."""

from placement.domain.engine.size import Size
from placement.domain.standing import QUEUE_EVERY_MS, is_due, positions

from tests.domain.placement_sites import ask, node, placed, site, wish


def test_places_in_line_are_counted_as_the_queue_is_gone_through() -> None:
    engine = site(node("n1"))
    assert positions(engine) == {}
    placed(engine, wish("sits", Size(gpus=8)))
    for name, priority in (("cheap", 0), ("dear", 200)):
        ask(engine, wish(name, Size(gpus=8), queue=True, priority=priority))
    assert positions(engine) == {"dear": 1, "cheap": 2}


def test_time_alone_matters_where_somebody_waits_and_was_not_tried_for_a_while() -> None:
    engine = site(node("n1"))
    placed(engine, wish("sits", Size(gpus=8)))
    assert not is_due(engine, 0, 10 * QUEUE_EVERY_MS)
    ask(engine, wish("waits", Size(gpus=8), queue=True))
    assert not is_due(engine, 1_000, QUEUE_EVERY_MS)
    assert is_due(engine, 1_000, QUEUE_EVERY_MS + 1_000)


def test_whoever_has_run_as_long_as_it_may_is_due_just_then() -> None:
    engine = site(node("n1"))
    placed(engine, wish("bounded", Size(gpus=1), run_ms=500), at=100)
    assert not is_due(engine, 100, 599)
    assert is_due(engine, 100, 600)
