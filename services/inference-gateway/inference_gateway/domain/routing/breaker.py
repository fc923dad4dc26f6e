"""A circuit breaker: a replica that keeps failing is left alone, and probed now and then."""

FAULTS_IN_A_ROW = 5
WINDOW = 20
FAULTS_IN_WINDOW = 10
"""Opened by so many faults in a row, or by so many among the last ``WINDOW`` outcomes."""

PROBE_FIRST_S = 1.0
PROBE_MAX_S = 30.0
"""The first probe comes after a second; each that fails doubles the wait, up to this."""

_WINDOW_BITS = (1 << WINDOW) - 1


class Breaker:
    """Closed until too much fails; then open, with one probe at a time, until one succeeds.

    ``probe_at`` is when the next probe is due, and absent while closed.
    """

    __slots__ = ("_faults", "_opened", "_row", "_seen", "probe_at", "probing")

    def __init__(self) -> None:
        self.probe_at: float | None = None
        self.probing = False
        self._opened = 0
        self._row = 0
        self._faults = 0
        self._seen = 0

    def due(self, now: float) -> bool:
        """Tell whether a probe should be sent now."""
        return self.probe_at is not None and not self.probing and self.probe_at <= now

    def begin(self) -> bool:
        """Hear that a request is sent; tell whether it is a probe, which goes through an open circuit.

        What was sent before the circuit opened says nothing new when it ends, however it does.
        """
        self.probing = self.probe_at is not None
        return self.probing

    def succeed(self, *, probe: bool) -> None:
        """Hear that a request was answered."""
        if self.probe_at is None:
            self._row = 0
            self._note(fault=False)
        elif probe:
            self._opened = 0
            self._close()

    def fail(self, now: float, *, probe: bool) -> None:
        """Hear that a request was not answered as it should be."""
        if self.probe_at is not None:
            if probe and self.probing:
                self._open(now)
            return
        self._row += 1
        self._note(fault=True)
        often = self._seen >= WINDOW and self._faults.bit_count() >= FAULTS_IN_WINDOW
        if self._row >= FAULTS_IN_A_ROW or often:
            self._open(now)

    def forgo(self, *, probe: bool) -> None:
        """Hear that a request ended without saying anything of the replica: a probe is due anew."""
        if probe:
            self.probing = False

    def _note(self, *, fault: bool) -> None:
        self._faults = (self._faults << 1 | fault) & _WINDOW_BITS
        self._seen = min(self._seen + 1, WINDOW)

    def _open(self, now: float) -> None:
        self.probing = False
        self.probe_at = now + min(PROBE_FIRST_S * 2**self._opened, PROBE_MAX_S)
        self._opened = min(self._opened + 1, 16)

    def _close(self) -> None:
        self.probe_at = None
        self.probing = False
        self._row = 0
        self._faults = 0
        self._seen = 0
