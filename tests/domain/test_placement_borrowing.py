"""Quota while work comes and goes: nothing is exceeded, and borrowing keeps nobody from what is guaranteed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement.domain.engine.queue import PRIORITIES
from placement.domain.engine.wish import Placed

from tests.domain.halls import HOUR, Hall
from tests.domain.test_placement_quota import shared

pytestmark = pytest.mark.slow

PROJECTS = ("acme/red", "acme/blue", "beta/one", "gamma/none")

Step = tuple[str, int, int, bool, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(("ask", "ask", "ask", "release", "tick")),
        st.integers(0, 3),
        st.sampled_from((1, 1, 2, 4)),
        st.booleans(),
        st.sampled_from(tuple(PRIORITIES.values())),
    ),
    max_size=40,
)


def take(hall: Hall, step: Step, *, queue: bool = False) -> None:
    kind, which, gpus, soft, priority = step
    if kind == "ask":
        hall.ask(
            PROJECTS[which],
            gpus,
            preemptible=soft,
            priority=priority,
            queue=queue,
            members=1 + which % 2,
        )
    elif kind == "release" and hall.running:
        hall.release(hall.running[(which + gpus) % len(hall.running)])
    else:
        hall.tick(hall.now + HOUR // 4)


@settings(max_examples=100, deadline=None)
@given(steps, st.booleans())
def test_no_quota_is_exceeded_at_any_time(taken: list[Step], queue: bool) -> None:
    hall = shared()
    hall.quota("acme", "blue", gpus=2, limit=5)
    for step in taken:
        take(hall, step, queue=queue)
        quota = hall.engine.turns.admission.quota
        for above in quota.organizations.values():
            assert above.firm <= above.guarantee
            drawn = 0
            for one in above.projects.values():
                mine = [
                    held
                    for held in hall.engine.holdings.values()
                    if (held.wish.organization, held.wish.project) == (above.name, one.name)
                ]
                firm = sum(
                    held.wish.size.milli * held.wish.members for held in mine if not held.borrowed
                )
                held = sum(held.wish.size.milli * held.wish.members for held in mine)
                assert (firm, held) == (one.firm, one.held)
                assert one.limit is None or held <= one.limit
                assert all(held.wish.preemptible for held in mine if held.borrowed)
                drawn += max(0, firm - one.guarantee)
            assert drawn == above.over <= above.pool


@settings(max_examples=15, deadline=None)
@given(steps)
def test_borrowing_never_keeps_a_guaranteed_wish_waiting(taken: list[Step]) -> None:
    """Of single GPUs: where members must share a node or a domain, others' firm work can be in the way."""
    hall = shared()
    for step in taken:
        take(hall, step, queue=True)
    for one in hall.waiting:
        hall.cancel(one)
    quota = hall.engine.turns.admission.quota
    for project in PROJECTS[:3]:
        own = quota.project(*project.split("/"))
        while own.stuck + 1_000 <= own.guarantee:
            found = hall.ask(project, 1, queue=True, priority=PRIORITIES["system"])
            assert isinstance(found, Placed), (found, hall.engine.holdings)
            assert not found.borrowed
