"""The machine that was measured on: how dear it is there to pass bytes between sockets, and to read JSON.

Absolute figures of two machines compare only beside that: what a gateway does is mostly such calls, and Python.
"""

import json
import os
import platform
import socket
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from mesh_tools.bench.gateway import words
from mesh_tools.bench.gateway.cores import Cores, started_on

PASSES = 5_000
TRIES = 5
READS = 500
AIMED_JSON_US = 2.62
"""What ``json.loads`` of such a chat took on the machine by whose figures the aims were set."""


def machine(cores: Cores) -> dict[str, Any]:
    """Return what is to be said of it."""
    return {
        "cpu": _cpu(),
        "count": os.cpu_count(),
        "cores": msgspec.to_builtins(cores),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
        "socket_pass_us": socket_pass_us(cores.gateway),
    }


def socket_pass_us(core: int) -> float:
    """Return the CPU time, in µs, of one send and one receive over loopback: the best of a few tries."""
    with (
        started_on(core),
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as ours,
        server.accept()[0] as theirs,
    ):
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return round(min(_passed(ours, theirs) for _ in range(TRIES)) / PASSES * 1e6, 2)


def json_us(until: Callable[[], bool]) -> float:
    """Return the CPU time, in µs, in which Python's own ``json`` reads a chat, again and again ``until``: the median."""
    raw = words.body(words.MODEL, words.SMALL_BYTES, stream=False)
    took: list[float] = []
    while not until() or not took:
        began = time.process_time()
        for _ in range(READS):
            json.loads(raw)
        took.append((time.process_time() - began) / READS * 1e6)
    return round(median(took), 2)


def _passed(ours: socket.socket, theirs: socket.socket) -> float:
    payload = b"x" * words.SMALL_BYTES
    began = time.process_time()
    for _ in range(PASSES):
        ours.send(payload)
        theirs.recv(words.SMALL_BYTES)
    return time.process_time() - began


def _cpu() -> str:
    told: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        told.setdefault(name.strip(), value.strip())
    name = told.get("model name", platform.machine())
    return f"{name} (family {told.get('cpu family', '?')}, model {told.get('model', '?')})"
