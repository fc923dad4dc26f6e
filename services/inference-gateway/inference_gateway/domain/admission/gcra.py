"""A share a minute, kept exactly: what is left rises evenly, up to a whole minute's share."""

MINUTE_NS = 60_000_000_000


class Bucket:
    """The generic cell rate algorithm, with the whole minute's share as its burst.

    Everything is an integer, in units of a nanosecond's rise of a share of one a minute, so that
    nothing is made or lost by rounding: in any window of ``t`` no more is taken than
    ``share * (t / 60 s) + share``. A new bucket is full. What is left is below zero where more was
    used than was taken.
    """

    __slots__ = ("_at", "_full", "assumed", "raw", "share")

    def __init__(self, share: int, *, assumed: bool = False) -> None:
        self.share = share
        self.assumed = assumed
        """Whether nobody has confirmed the share yet."""
        self._full = share * MINUTE_NS
        self.raw = self._full
        """What was left when it was last looked at, in the bucket's own units: take from it what ``raw_at`` shows."""
        self._at = 0

    def raw_at(self, now_ns: int) -> int:
        """Return what is left now, in the bucket's own units. Time that steps back is time that stands still."""
        passed = now_ns - self._at
        if passed > 0:
            self._at = now_ns
            left, full = self.raw + passed * self.share, self._full
            self.raw = left if left < full else full  # noqa: FURB136 - four times as fast, on the hot path
        return self.raw

    def give_back(self, raw: int, now_ns: int) -> None:
        """Put back what was taken and not used; below zero it is what was used and not taken."""
        if raw < 0:
            # What has risen over the brim until now is lost before this is taken.
            self.raw_at(now_ns)
        left, full = self.raw + raw, self._full
        self.raw = left if left < full else full  # noqa: FURB136 - same

    def left(self, now_ns: int) -> int:
        """Return how much may be taken now."""
        return max(self.raw_at(now_ns) // MINUTE_NS, 0)

    def wait_ns(self, amount: int, now_ns: int) -> int | None:
        """Return the time after which ``amount`` fits; nothing where it never does."""
        if amount > self.share:
            return None
        missing = amount * MINUTE_NS - self.raw_at(now_ns)
        return max(-(-missing // self.share), 0) if self.share else 0

    def reshare(self, share: int, now_ns: int, *, assumed: bool = False) -> None:
        """Go on with another share: what is left stays, as far as the new share holds it.

        Where the old one was only assumed the new one begins full, less what was used of the old.
        """
        self.raw_at(now_ns)
        full = share * MINUTE_NS
        if self.assumed and not assumed:
            self.raw += full - self._full
        self.raw = min(self.raw, full)
        self._full = full
        self.share = share
        self.assumed = assumed
