"""For a refusal, the smallest single change that would have admitted it. It is true: doing it admits it.

"Smallest" is the first kind of ``KINDS`` of which any amount admits the wish, and of that kind the least amount;
of equal ones the first by row. Kinds stand in the order in which they hurt: first what the asker takes less
of, then the terms it gives up, then what the site's operator does, last the end of somebody's workload.
Nothing is relaxed to nothing: who asks for CPU, memory or GPUs still gets some.

==============  ==========================================  =====================================
kind            amount                                      names
==============  ==========================================  =====================================
members         members fewer
cpu             milli of a CPU less for each member
memory          MiB less for each member
gpu_model       1                                           the model that would do as well
gpu_milli       thousandths of a GPU less for each member
gpus            GPUs fewer for each member
mig             compute slices and GB fewer for each member the smaller profile that would do
isolation       steps down of rack, NVLink domain, node     the part that would do; none for none
assurance       assurances given up                         which
jurisdiction    1                                           the jurisdiction that would do as well
ready           1                                           the node returned to service
heard           1                                           the node heard of again
power           watts that one cap is raised by             its level and its domain
mig_mode        1                                           the node of which an idle GPU is put in MIG mode
workload        1                                           the workload that ends
==============  ==========================================  =====================================

The workload that ends is the one of the lowest priority, then of the least restart cost, then with the fewest
thousandths of GPUs (a MIG instance counts as none), then placed last.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from placement.domain.engine.fit import BIT, FITS
from placement.domain.engine.gang import NoGang
from placement.domain.engine.relax_site import (
    AROUND,
    done,
    inputs_of,
    least_heard,
    least_mig_mode,
    least_power,
    least_ready,
    least_workload,
)
from placement.domain.engine.relax_wish import (
    Lack,
    least_assurance,
    least_cpu,
    least_gpus,
    least_isolation,
    least_jurisdiction,
    least_memory,
    least_mig,
    least_milli,
    least_model,
    most,
    wish_without,
)
from placement.domain.engine.room import ROOM, members
from placement.domain.engine.site import Ints
from placement.domain.engine.wish import Input, Placed, Relaxation, Wish

if TYPE_CHECKING:
    from placement.domain.engine.engine import Engine

TRIES_MAX = 64
"""Changes that are tried one by one for a wish of several members."""


class Kind(NamedTuple):
    """One kind of change: which constraints it can lift, and the least of it that admits one member."""

    name: str
    lifts: int
    least: Callable[[Lack], Relaxation | None]


KINDS = (
    Kind("cpu", BIT["cpu"], least_cpu),
    Kind("memory", BIT["memory"], least_memory),
    Kind("gpu_model", BIT["gpu_model"], least_model),
    Kind("gpu_milli", BIT["gpus"] | BIT["power"], least_milli),
    Kind("gpus", BIT["gpus"] | BIT["power"], least_gpus),
    Kind("mig", BIT["gpus"] | BIT["power"], least_mig),
    Kind("isolation", BIT["isolation"], least_isolation),
    Kind("assurance", BIT["assurance"], least_assurance),
    Kind("jurisdiction", BIT["jurisdiction"], least_jurisdiction),
    Kind("ready", BIT["ready"], least_ready),
    Kind("heard", BIT["heard"], least_heard),
    Kind("power", BIT["power"], least_power),
    Kind("mig_mode", BIT["gpus"], least_mig_mode),
    Kind("workload", ROOM | AROUND, least_workload),
)


def smallest(
    engine: "Engine", wish: Wish, fails: Ints, seated: int = 0, kinds: Sequence[Kind] = KINDS
) -> Relaxation | None:
    """Return the smallest change that admits a wish just refused; ``None`` where none is known.

    ``fails`` int[row] are the constraints that each node failed for the member that had no seat, after
    ``seated`` others had theirs. Exact for one member. For several: fewer of them where any had a seat,
    else what ``search`` finds.
    """
    if seated:
        return Relaxation("members", wish.members - seated)
    if wish.members > 1:
        return search(engine, wish, kinds)
    there = np.flatnonzero(np.bincount(fails, minlength=1 << FITS)).tolist()
    for kind in kinds:
        others = ~kind.lifts
        if any(lacks & others == 0 for lacks in there):
            rows = np.flatnonzero(fails & others == 0)
            found = kind.least(Lack(engine, wish, rows, fails[rows]))
            if found is not None:
                return found
    return None


def smallest_together(
    engine: "Engine", wish: Wish, refused: NoGang, kinds: Sequence[Kind] = KINDS
) -> Relaxation | None:
    """Return the smallest change that admits a gang just refused; ``None`` where none is known.

    Fewer members, where as many as there is room for by count are admitted. Else it is searched for, among the
    kinds that lift all that some node lacks.
    """
    count = engine.gangs.most(wish)
    if count:
        return Relaxation("members", wish.members - count)
    lacks = np.flatnonzero(np.bincount(refused.fails, minlength=1 << FITS)).tolist()
    able = [kind for kind in kinds if any(one & ~kind.lifts == 0 for one in lacks if one)]
    return search(engine, wish, able)


def search(
    engine: "Engine", wish: Wish, kinds: Sequence[Kind] = KINDS, tries: int = TRIES_MAX
) -> Relaxation | None:
    """Return the smallest change that admits a wish of any number of members, found by trying: slow.

    A number is halved towards the least that does, which is the least where less never hurts; of everything
    else that is tried which admits one member.
    """
    trials = Trials(engine, wish, tries)
    if wish.members > 1:
        found = trials.halved("members")
        if found is not None:
            return found
    for kind in kinds:
        found = trials.halved(kind.name) if most(wish, kind.name) else trials.whole(kind)
        if found is not None:
            return found
    return None


def relaxed(engine: "Engine", wish: Wish, relaxation: Relaxation) -> tuple[tuple[Input, ...], Wish]:
    """Return what a relaxation makes of the world and of the wish: apply the inputs, then ask."""
    return inputs_of(engine, relaxation), wish_without(wish, relaxation)


class Trials:
    """Tries changes for one wish, a bounded number of times; the engine is left as it was."""

    def __init__(self, engine: "Engine", wish: Wish, tries: int) -> None:
        self._engine, self._wish, self._tries = engine, wish, tries

    def admits(self, relaxation: Relaxation) -> bool:
        """Tell whether a change admits the wish; never, once there were too many tries."""
        self._tries -= 1
        if self._tries < 0:
            return False
        with done(self._engine, relaxation):
            return isinstance(self._engine.would(wish_without(self._wish, relaxation)), Placed)

    def halved(self, kind: str) -> Relaxation | None:
        """Return the least amount of a kind that admits, where the largest does."""
        high = most(self._wish, kind)
        if not high or not self._may(kind, high) or not self.admits(Relaxation(kind, high)):
            return None
        # What has no room looked at node by node is not worth a try: that is quickly counted.
        low = _least(0, high, lambda amount: self._may(kind, amount)) - 1
        return Relaxation(kind, _least(low, high, lambda amount: self.admits(Relaxation(kind, amount))))

    def whole(self, kind: Kind) -> Relaxation | None:
        """Return what of a kind admits one member, if it admits all."""
        wish = self._wish
        fails = self._engine.chooser.lacks(wish.size, wish.terms, self._engine.site.every)
        rows = np.flatnonzero(fails & ~kind.lifts == 0)
        if not len(rows):
            return None
        found = kind.least(Lack(self._engine, wish, rows, fails[rows]))
        return found if found is not None and self.admits(found) else None

    def _may(self, kind: str, amount: int) -> bool:
        """Tell whether the nodes, each looked at alone, take so many members."""
        wish = wish_without(self._wish, Relaxation(kind, amount))
        return int(members(self._engine.site, wish.size, wish.terms).sum()) >= wish.members


def _least(low: int, high: int, does: Callable[[int], bool]) -> int:
    """Return the least number above ``low`` that does, as far as ``high``, which does."""
    if high - low > 1 and does(low + 1):
        return low + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if does(middle) else (middle, high)
    return high
