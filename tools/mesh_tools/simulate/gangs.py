"""How far jobs are: each runs for its time once all its members are there, from its last checkpoint on."""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
from mesh_contracts.placement import MemberSpec

CHECKPOINT_S: Final = 3_600.0
"""Simulated seconds of work after which a job would not do it again."""

Finish = Callable[[str], None]


class _Attempt(msgspec.Struct):
    name: str
    whole: int
    members: dict[str, Finish]
    began_at: float = 0.0
    ends: asyncio.TimerHandle | None = None


class Gangs:
    """What is left of each job, and who of its members is there. ``speed`` simulated seconds are a real one.

    ``whole`` hears the name of a job whose members all run, ``over`` of one that has ended well.
    """

    def __init__(self, speed: float, whole: Callable[[str], None], over: Callable[[str], None]) -> None:
        self._speed, self._whole, self._over = speed, whole, over
        self._left_s: dict[str, float] = {}
        self._attempts: dict[tuple[str, int], _Attempt] = {}
        self._still = True
        self.succeeded = 0

    def expect(self, name: str, run_s: float) -> None:
        """Know how long a job runs, before it is asked for."""
        self._left_s[name] = run_s

    def forget(self, name: str) -> None:
        """Know that a job will never run (again)."""
        self._left_s.pop(name, None)

    def go_on(self) -> None:
        """Have jobs do their work from now on; before they only stand ready."""
        self._still = False
        for key, attempt in self._attempts.items():
            self._run(key, attempt)

    def stand_still(self) -> None:
        """Have no job go on, nor end."""
        self._still = True
        for attempt in self._attempts.values():
            if attempt.ends is not None:
                attempt.ends.cancel()

    def started(self, spec: MemberSpec, finish: Finish) -> None:
        """Hear that a member's command runs. ``finish`` has it end well."""
        key = spec.owner_id, spec.attempt
        attempt = self._attempts.setdefault(key, _Attempt(spec.name, spec.members, {}))
        attempt.members[spec.workload_id] = finish
        if len(attempt.members) == attempt.whole:
            self._whole(spec.name)
            self._run(key, attempt)

    def gone(self, spec: MemberSpec) -> None:
        """Hear that a member is not there any more: the gang does nothing without it."""
        key = spec.owner_id, spec.attempt
        attempt = self._attempts.get(key)
        if attempt is None:
            return
        attempt.members.pop(spec.workload_id, None)
        if attempt.ends is not None:
            attempt.ends.cancel()
            attempt.ends = None
            ran_s = (asyncio.get_running_loop().time() - attempt.began_at) * self._speed
            if spec.name in self._left_s:
                self._left_s[spec.name] -= ran_s // CHECKPOINT_S * CHECKPOINT_S
        if not attempt.members:
            del self._attempts[key]

    def _run(self, key: tuple[str, int], attempt: _Attempt) -> None:
        left_s = self._left_s.get(attempt.name)
        whole = len(attempt.members) == attempt.whole
        if self._still or not whole or left_s is None or attempt.ends is not None:
            return
        loop = asyncio.get_running_loop()
        attempt.began_at = loop.time()
        attempt.ends = loop.call_later(left_s / self._speed, self._finish, key, attempt.name)

    def _finish(self, key: tuple[str, int], name: str) -> None:
        attempt = self._attempts.pop(key)
        self.succeeded += 1
        self.forget(name)
        for workload_id, finish in attempt.members.items():
            finish(workload_id)
        self._over(name)
