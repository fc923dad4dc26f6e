"""The state that a rollback goes back to, and what was given since: an engine is made anew from both."""

import time
from typing import Final

from placement.domain.engine.engine import Engine
from placement.domain.engine.redo import Decided, have
from placement.domain.engine.snapshot import Snapshot
from placement.domain.engine.wish import Input, Outcome

INPUTS_MAX: Final = 4_096
"""Inputs after which the state is taken anew: so many are decided again by a rollback."""
SPENT_LEAST_S: Final = 0.1
WORTH: Final = 20
"""It is taken anew as well once what was decided since took so long, and so many times as long as taking it."""


class Base:
    """A state that is committed, and the inputs since: committed ones, then those of the transaction at work."""

    def __init__(self) -> None:
        self._state = Engine().snapshot()
        self._since: list[Input | Decided] = []
        self._spent_s = self._took_s = 0.0
        self.decided_s = 0.0
        """How long deciding has taken since somebody set this to nothing."""

    @property
    def due(self) -> bool:
        """Whether deciding again what was given since would by now hold everybody up."""
        worth = self._spent_s >= max(SPENT_LEAST_S, WORTH * self._took_s)
        return worth or len(self._since) >= INPUTS_MAX

    def begin(self, state: Snapshot) -> None:
        """Go back to this state from now on."""
        self._state = state
        self._since.clear()
        self._spent_s = 0.0

    def take(self, engine: Engine) -> Snapshot:
        """Go back to how an engine is now, and return that."""
        began = time.perf_counter()
        self.begin(engine.snapshot())
        self._took_s = time.perf_counter() - began
        return self._state

    def decide(self, engine: Engine, given: Input) -> Outcome:
        """Return what an engine decides. It may decide it again. Raises what the engine does."""
        began = time.perf_counter()
        outcome = engine.apply(given)
        took_s = time.perf_counter() - began
        self._spent_s += took_s
        self.decided_s += took_s
        self._since.append(given)
        return outcome

    def decided(self, one: Decided) -> None:
        """Have the last input, which came out otherwise, have been decided like this."""
        self._since[-1] = one

    def drop(self, count: int) -> None:
        """Forget the last inputs."""
        if count:
            del self._since[-count:]

    def engine(self) -> Engine:
        """Return an engine that is as all that was given since made it."""
        engine = Engine.from_snapshot(self._state)
        for given in self._since:
            if isinstance(given, Decided):
                have(engine, given)
            else:
                engine.apply(given)
        return engine
