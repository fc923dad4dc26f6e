"""When an engine is ready, when it has failed: judged from what was seen of it."""

from typing import Literal

import msgspec

MISSES_MAX = 3
"""Probes in a row without an answer, after which a ready engine has failed."""

START_WITHIN_S = 60.0
"""From its start until its first answer, where nothing else is said."""

Phase = Literal["starting", "ready", "stopping", "stopped", "failed"]


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """An engine as it is judged now. ``since`` is monotonic seconds."""

    phase: Phase = "starting"
    since: float = 0.0
    misses: int = 0
    reason: str = ""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One look: whether the process lives, whether it answered (``None``: not asked).

    ``done``: it has ended as it was meant to.
    """

    alive: bool
    answered: bool | None = None
    done: bool = False
    words: str = ""


def judge(watch: Watch, seen: Seen, now: float, start_within_s: float = START_WITHIN_S) -> Watch:
    """Return the engine as judged after one more look; ``stopped`` and ``failed`` are final."""
    if watch.phase in {"stopped", "failed"}:
        return watch
    if not seen.alive:
        if watch.phase == "stopping" or seen.done:
            return Watch(phase="stopped", since=now)
        return _failed(f"it ended by itself: {seen.words}", now)
    match watch.phase:
        case "starting":
            return _judge_starting(watch, seen, now, start_within_s)
        case "ready":
            return _judge_ready(watch, seen, now)
    return watch


def _judge_starting(watch: Watch, seen: Seen, now: float, within_s: float) -> Watch:
    if seen.answered:
        return Watch(phase="ready", since=now)
    if now - watch.since > within_s:
        return _failed(f"the engine did not answer within {within_s:g} s", now)
    return watch


def _judge_ready(watch: Watch, seen: Seen, now: float) -> Watch:
    if seen.answered is None:
        return watch
    misses = 0 if seen.answered else watch.misses + 1
    if misses >= MISSES_MAX:
        return _failed(f"the engine did not answer {MISSES_MAX} probes in a row", now)
    return msgspec.structs.replace(watch, misses=misses)


def _failed(reason: str, now: float) -> Watch:
    return Watch(phase="failed", since=now, reason=reason)
