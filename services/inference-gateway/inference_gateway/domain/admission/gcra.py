"""A share a minute, kept exactly: what is left rises evenly, up to a whole minute's share."""

MINUTE_NS = 60_000_000_000


class Bucket:
    """The generic cell rate algorithm, with the whole minute's share as its burst.

    Everything is an integer, in units of a nanosecond's rise of a share of one a minute, so that
    nothing is made or lost by rounding: in any window of ``t`` no more is taken than
    ``share * (t / 60 s) + share``. A new bucket is full. What is left is below zero where more was
    used than was taken.
    """

    __slots__ = ("_at", "_left", "assumed", "share")

    def __init__(self, share: int, *, assumed: bool = False) -> None:
        self.share = share
        self.assumed = assumed
        """Whether nobody has confirmed the share yet."""
        self._left = share * MINUTE_NS
        self._at = 0

    def fits(self, amount: int, now_ns: int) -> bool:
        """Tell whether ``amount`` may be taken now. Time that steps back is time that stands still."""
        passed = now_ns - self._at
        if passed > 0:
            self._at = now_ns
            left = self._left + passed * self.share
            full = self.share * MINUTE_NS
            self._left = left if left < full else full  # noqa: FURB136 - four times as fast, on the hot path
        return self._left >= amount * MINUTE_NS

    def take(self, amount: int) -> None:
        """Take what ``fits``."""
        self._left -= amount * MINUTE_NS

    def settle(self, taken: int, used: int, now_ns: int) -> None:
        """Give back what was taken and not used; take what was used and not taken."""
        self.fits(0, now_ns)
        self._left = min(self._left + (taken - used) * MINUTE_NS, self.share * MINUTE_NS)

    def left(self, now_ns: int) -> int:
        """Return how much may be taken now."""
        self.fits(0, now_ns)
        return max(self._left // MINUTE_NS, 0)

    def raw_at(self, now_ns: int) -> int:
        """Return what is left now, in the bucket's own units."""
        self.fits(0, now_ns)
        return self._left

    @property
    def raw(self) -> int:
        """Return what was left when it was last looked at, in the bucket's own units."""
        return self._left

    def wait_ns(self, amount: int, now_ns: int) -> int | None:
        """Return the time after which ``amount`` fits; nothing where it never does."""
        if amount > self.share:
            return None
        self.fits(0, now_ns)
        missing = amount * MINUTE_NS - self._left
        return max(-(-missing // self.share), 0) if self.share else 0

    def reshare(self, share: int, now_ns: int, *, assumed: bool = False) -> None:
        """Go on with another share: what is left stays, as far as the new share holds it.

        Where the old one was only assumed the new one begins full, less what was used of the old.
        """
        self.fits(0, now_ns)
        full = share * MINUTE_NS
        if self.assumed and not assumed:
            self._left += full - self.share * MINUTE_NS
        self._left = min(self._left, full)
        self.share = share
        self.assumed = assumed
