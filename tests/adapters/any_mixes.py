"""What callers ask for, and how often: by the name of the mix."""

from tests.adapters.any_callers import Caller, Draw

CROWDED: list[Draw] = [
    (22, Caller.submit),
    (14, Caller.cancel),
    (8, Caller.request),
    (7, Caller.release),
    (9, Caller.create),
    (6, Caller.change),
    (8, Caller.delete),
    (4, Caller.set_quota),
    (5, Caller.set_cap),
    (1, Caller.cordon),
    (2, Caller.drain),
    (6, Caller.bring_back),
    (3, Caller.maintain),
    (1, Caller.check),
    (1, Caller.rearm),
    (3, Caller.explain),
    (4, Caller.look),
]
"""More than there is room for, so that most of it has others give way, and a queue that is tried again each time."""

BRISK: list[Draw] = [
    (100, Caller.submit_one),
    (100, Caller.cancel),
    (20, Caller.look),
    (4, Caller.release),
    (4, Caller.delete),
    (3, Caller.bring_back),
    (4, Caller.lift_cap),
    (4, Caller.end_window),
    *((weight / 20, draw) for weight, draw in CROWDED),
]
"""Mostly what is small and soon ended, with some of all the rest among it that is soon undone: many more in the same time."""

MIXES = {"crowded": CROWDED, "brisk": BRISK}
