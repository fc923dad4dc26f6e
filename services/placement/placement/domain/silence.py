"""Who is lost: silence is judged with care, since most silences are our own."""

from collections.abc import Iterable, Mapping

import msgspec

HEARTBEAT_EVERY_S = 2.0
LOST_AFTER_S = 10.0
"""Silence, heard over a whole connection, after which a node is lost."""
SUSPECT_AFTER_S = 5.0
"""Silence that counts when we ask whether many fell silent at once."""
STALLED_AFTER_S = 3.0
"""A process that stood still this long has heard nothing, and starts anew."""
AT_ONCE_SHARE = 0.10
AT_ONCE_MIN = 1


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """One node is lost, after so much silence."""

    node_id: str
    silent_ms: int


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """Who is lost. ``suspected`` are nodes silent at once; then nobody is lost and the clock restarts."""

    lost: tuple[Lost, ...] = ()
    suspected: tuple[str, ...] = ()
    restart: bool = False


def at_once_max(known: int) -> int:
    """Return how many nodes may fall silent together and still be believed lost."""
    return max(AT_ONCE_MIN, int(known * AT_ONCE_SHARE))


def judge(
    watched: Iterable[str],
    heard: Mapping[str, float],
    *,
    counted_from: float,
    whole_since: float | None,
    last_awake: float,
    now: float,
) -> Judgement:
    """Return who is lost. All times are seconds of one monotonic clock.

    A node's silence is counted from the latest of: its last heartbeat, the time our connection
    became whole, and ``counted_from`` (our start, or the last restart of the clock). ``last_awake`` is when
    this process last ran: it hears nothing while it stands still.
    """
    if whole_since is None or now - last_awake > STALLED_AFTER_S:
        return Judgement(restart=True)
    floor = max(whole_since, counted_from)
    silence = {node: now - max(heard.get(node, floor), floor) for node in watched}
    lost = sorted(node for node, seconds in silence.items() if seconds > LOST_AFTER_S)
    if not lost:
        return Judgement()
    silent = tuple(sorted(node for node, seconds in silence.items() if seconds > SUSPECT_AFTER_S))
    if len(silent) > at_once_max(len(silence)):
        return Judgement(suspected=silent, restart=True)
    return Judgement(
        lost=tuple(Lost(node_id=node, silent_ms=int(silence[node] * 1_000)) for node in lost)
    )
