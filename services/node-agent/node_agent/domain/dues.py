"""Which devices are due a check, and of which level: told by what befell them, never by who asks."""

from collections.abc import Collection, Sequence

from mesh_contracts.node import Check, Device

from node_agent.domain.verdicts import Level, of_device

_ORDER: tuple[Level, ...] = ("quick", "standard", "deep")

AT_WORK = "not checked: somebody's work is there"
LET_FINISH = "none: it is checked as soon as nobody works there"


def higher(one: Level, other: Level) -> Level:
    """Return the level of two that looks at more."""
    return max(one, other, key=_ORDER.index)


class Dues:
    """What is due. Times are monotonic seconds; ``every_s`` is how often an idle device is checked, 0 for never.

    A device that somebody worked on is due a quick check, one that is suspected the level that was said, one that
    nobody looked at for long a quick one.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._checked: dict[str, float] = {}
        self._suspected: dict[str, Level] = {}
        self._used: dict[str, str] = {}

    def used(self, device_ids: Collection[str], project: str) -> None:
        """Note that work of a project is about to begin on these devices."""
        self._used.update(dict.fromkeys(device_ids, project))

    @property
    def suspected(self) -> dict[str, Level]:
        """Which devices are not to be trusted until they passed which level."""
        return dict(self._suspected)

    def whose(self, device_id: str) -> str:
        """Return the project that used a device last since it was checked; empty where none did."""
        return self._used.get(device_id, "")

    def suspect(self, device_id: str, level: Level) -> None:
        """Note that a device is not to be trusted until it passed that level; the higher of two counts."""
        self._suspected[device_id] = higher(self._suspected.get(device_id, "quick"), level)

    def checked(self, device_ids: Collection[str], level: Level, now: float) -> None:
        """Note that devices were checked, whatever it came to: it is told, and what is to follow decides placement."""
        for one in device_ids:
            self._checked[one] = now
            self._used.pop(one, None)
            if _ORDER.index(level) >= _ORDER.index(self._suspected.get(one, "quick")):
                self._suspected.pop(one, None)

    def first(self, device_ids: Collection[str], project: str, *, whole: bool, gang: bool) -> list[str]:
        """Return what is to be checked before work of ``project`` may begin.

        What another project had before, where the work is to have it alone (beside others nothing is checked), and
        before a gang whatever was used at all: one bad GPU would hold up all of them.
        """
        if not whole:
            return []
        return [
            one
            for one in device_ids
            if one in self._suspected or (one in self._used and (gang or self._used[one] != project))
        ]

    def due(self, free: Sequence[str], now: float) -> tuple[Level, list[str]] | None:
        """Return which of the devices that nobody uses are due which level: the suspected ones before the others."""
        suspected = [one for one in free if one in self._suspected]
        if suspected:
            level = max((self._suspected[one] for one in suspected), key=_ORDER.index)
            return level, [one for one in suspected if self._suspected[one] == level]
        due = [one for one in free if one in self._used or self._late(one, now)]
        return ("quick", due) if due else None

    def _late(self, device_id: str, now: float) -> bool:
        return self._every_s > 0 and now - self._checked.get(device_id, now) >= self._every_s


def at_work(devices: Sequence[Device]) -> list[Check]:
    """Return what is told of devices that cannot be checked now."""
    return [of_device("device", one, "warn", AT_WORK, LET_FINISH) for one in devices]
