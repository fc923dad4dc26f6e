"""Requests at a fixed rate, each timed from the moment it was meant to leave.

An event loop's timers are too coarse for it (a millisecond); ``select`` waits to the microsecond.
"""

import select
import socket
import time
from array import array
from collections import deque

from mesh_tools.bench.gateway.asked import Seen, Wish, middle, tail
from mesh_tools.bench.gateway.wire import Message, NotHttp
from mesh_tools.bench.tree import Tree

CONNECTIONS = 16
"""Requests at once; more wait their turn, and the wait counts."""
SPIN_S = 100e-6
"""The end of a wait is spun away: what the system adds to a sleep would be in every figure."""
DRAIN_S = 30.0
READ_BYTES = 65_536


class Line:
    """One connection, and the request it carries."""

    def __init__(self, wish: Wish) -> None:
        self.socket = socket.create_connection((wish.host, wish.port), timeout=DRAIN_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.message = Message()
        self.due = 0.0

    def send(self, request: bytes, due: float) -> None:
        """Send what was meant to leave at ``due``."""
        self.message.again()
        self.due = due
        self.socket.sendall(request)


class Steady:
    """Requests that leave at their times."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._request = wish.sent()
        self._idle = [Line(wish) for _ in range(CONNECTIONS)]
        self._busy: dict[int, Line] = {}
        self._late: deque[float] = deque()
        self.took = array("d")
        self.errors = 0
        self.error = ""

    def run(self) -> Seen:
        """Send all, wait for what is out, close."""
        wish, tree = self._wish, Tree(self._wish.pid) if self._wish.pid else None
        for _ in range(CONNECTIONS):  # each connection once, before the clock
            self._late.append(time.perf_counter())
            self._start()
        self._until(time.perf_counter() + wish.warm_s)
        self._finish()
        self.took = array("d")
        self.errors = 0
        total, gap_s = round(wish.per_s * wish.window_s), 1 / wish.per_s
        cpu_s = tree.cpu_s() if tree else 0.0
        began = time.perf_counter() + gap_s
        for number in range(total):
            due = began + number * gap_s
            self._until(due)
            self._late.append(due)
            self._start()
        self._finish()
        window_s = time.perf_counter() - began
        cut = len(self._busy) + len(self._late)
        for line in [*self._idle, *self._busy.values()]:
            line.socket.close()
        took = sorted(self.took)
        return Seen(
            window_s=window_s,
            answers=len(took),
            cpu_s=tree.cpu_s() - cpu_s if tree else 0.0,
            p50_us=middle(took) * 1e6,
            p99_us=tail(took) * 1e6,
            cut=cut,
            errors=self.errors,
            error=self.error,
        )

    def _start(self) -> None:
        while self._late and self._idle:
            line = self._idle.pop(0)
            line.send(self._request, self._late.popleft())
            self._busy[line.socket.fileno()] = line

    def _finish(self) -> None:
        last = time.perf_counter() + DRAIN_S
        while (self._busy or self._late) and time.perf_counter() < last:
            self._read(DRAIN_S)

    def _until(self, due: float) -> None:
        while (left := due - time.perf_counter() - SPIN_S) > 0:
            self._read(left)
        while time.perf_counter() < due:
            pass

    def _read(self, within_s: float) -> None:
        ready, _, _ = select.select(list(self._busy), [], [], within_s)
        for number in ready:
            line = self._busy[number]
            try:
                data = line.socket.recv(READ_BYTES)
                line.message.feed(data)
            except (OSError, NotHttp, ValueError) as fault:
                self._failed(number, str(fault))
                continue
            if not data and not line.message.until_closed:
                self._failed(number, "the connection was lost")
            elif not data or line.message.whole:
                self._ended(number, open_still=bool(data))
        self._start()

    def _ended(self, number: int, *, open_still: bool) -> None:
        line = self._busy[number]
        took = time.perf_counter() - line.due
        if line.message.status != 200:
            self._failed(number, str(line.message.status))
            return
        self.took.append(took)
        del self._busy[number]
        if open_still and b"\r\nconnection: close" not in line.message.head:
            self._idle.append(line)
        else:
            line.socket.close()
            self._idle.append(Line(self._wish))

    def _failed(self, number: int, why: str) -> None:
        self.errors += 1
        self.error = self.error or why
        self._busy.pop(number).socket.close()
        self._idle.append(Line(self._wish))


def run(wish: Wish) -> Seen:
    """Return what requests at the wished rate saw."""
    return Steady(wish).run()
