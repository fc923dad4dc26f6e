"""What a site lacks is said in figures that explain it, and in none that contradict themselves."""

from placement.domain.engine.notice import Short
from placement.domain.lacks import short_of


def capacity(have: int, want: int) -> Short:
    return Short(code="capacity", name="site", have=have, want=want, ever=False)


def test_a_site_that_is_too_small_is_told_apart_from_one_without_the_kind_that_is_asked_for() -> None:
    small, other = short_of(capacity(6_000, 99_000)), short_of(capacity(6_000, 143))
    assert small.code == other.code == "site_too_small"
    assert "99 GPUs are asked for, 6 GPUs are built" in small.detail
    assert "GPUs enough, but not such" in other.detail
    without = short_of(capacity(6_000, 0))
    assert "not so much memory or CPU, or take not so many members" in without.detail
    assert "GPU" not in without.detail
    assert small.unblock
    assert other.unblock
