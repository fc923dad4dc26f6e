"""How many replicas demand asks for: bounds, what gateways see, and two windows that keep it calm.

The need of a moment is ``ceil(load / target)``. More replicas are wanted once the *lowest* need of the
last ``up_after_ms`` passes those there are; fewer once the *highest* need of the last ``down_after_ms``
stays below them. Two exceptions: the first replica is wanted at once where there is none, and the
last one goes (where ``min`` is 0) after ``sleep_after_ms`` without a request.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from mesh_contracts.placement import Replicas


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway's last word on an endpoint: it counts until ``stands_until``.

    ``asked_at`` is when it last saw a request, as far as that word goes.
    """

    in_flight: int
    queued: int
    waking: bool
    asked_at: datetime
    stands_until: datetime

    @property
    def load(self) -> int:
        """How many requests are there."""
        return self.in_flight + self.queued

    @property
    def asks(self) -> bool:
        """Whether there is a request at all."""
        return self.load > 0 or self.waking


class Step(msgspec.Struct, frozen=True, array_like=True):
    """So many replicas were needed, until then."""

    need: int
    until: datetime


class Need(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The need of now, and of what was before it only what the windows can still ask for.

    ``peaks`` are higher than ``now`` and fall, ``troughs`` are lower and rise, each towards the
    present: never more than there are different needs. ``awake_at`` is when it was last woken.
    """

    now: int = 0
    peaks: tuple[Step, ...] = ()
    troughs: tuple[Step, ...] = ()
    awake_at: datetime | None = None


class Scaled(msgspec.Struct, frozen=True, kw_only=True):
    """How many replicas are wanted, what to remember, and when to look again if nothing is told."""

    wanted: int
    need: Need
    look_at: datetime | None


def scale(bounds: Replicas, wanted: int, before: Need, told: Sequence[Told], now: datetime) -> Scaled:
    """Decide how many replicas are wanted; the same words in any order give the same answer.

    Where nothing is told anew, no look before ``look_at`` gives another number.
    """
    standing = [one for one in told if now < one.stands_until and one.asks]
    seen = _seen(before, _needed(bounds, standing), bounds, now)
    asked_at = max([seen.awake_at or now, *(min(one.asked_at, now) for one in told)])
    sleeps_at = asked_at + timedelta(milliseconds=bounds.sleep_after_ms)
    least = max(bounds.min, 1)
    if bounds.min == 0 and seen.now == 0 and (wanted == 0 or now >= sleeps_at):
        chosen = 0
    else:
        lowest = min([seen.now, *(step.need for step in seen.troughs)])
        highest = max([seen.now, *(step.need for step in seen.peaks)])
        chosen = min(max(wanted, lowest), max(highest, least))
        chosen = min(max(chosen, least), bounds.max)
    if seen.awake_at is None or (wanted == 0 and chosen > 0):
        seen = msgspec.structs.replace(seen, awake_at=now)
        sleeps_at = max(sleeps_at, now + timedelta(milliseconds=bounds.sleep_after_ms))
    assert bounds.min <= chosen <= bounds.max
    looks = [one.stands_until for one in standing]
    if chosen < seen.now:
        held = [step.until for step in seen.troughs if step.need <= chosen]
        looks += [until + timedelta(milliseconds=bounds.up_after_ms) for until in held[-1:]]
    if chosen > max(seen.now, least):
        held = [step.until for step in seen.peaks if step.need >= chosen]
        looks += [until + timedelta(milliseconds=bounds.down_after_ms) for until in held[-1:]]
    if bounds.min == 0 and chosen > 0 and seen.now == 0:
        looks.append(sleeps_at)
    return Scaled(wanted=chosen, need=seen, look_at=min(looks, default=None))


def _needed(bounds: Replicas, standing: Sequence[Told]) -> int:
    load = sum(one.load for one in standing)
    return min(max(-(-load // bounds.target), 1 if standing else 0), bounds.max)


def _seen(before: Need, needed: int, bounds: Replicas, now: datetime) -> Need:
    """Return what is remembered once ``needed`` is the need of now; the need before it held until now."""
    peaks, troughs = list(before.peaks), list(before.troughs)
    if needed != before.now:
        step = Step(before.now, now)
        peaks = [*(one for one in peaks if one.need > step.need), step]
        troughs = [*(one for one in troughs if one.need < step.need), step]
    down, up = (timedelta(milliseconds=ms) for ms in (bounds.down_after_ms, bounds.up_after_ms))
    return Need(
        now=needed,
        peaks=tuple(one for one in peaks if one.need > needed and now - one.until < down),
        troughs=tuple(one for one in troughs if one.need < needed and now - one.until < up),
        awake_at=before.awake_at,
    )
