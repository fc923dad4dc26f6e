"""Who asks in the end-to-end measurement, in a process of its own.

``python -m mesh_tools.bench.placement.asking NATS_URL SECRET_FILE AT_ONCE ASKS [RATE]`` prints one JSON object.
Without a rate so many ask at once, each again as soon as it is answered; with one, asks begin at that
rate whether or not earlier ones are answered.
"""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop
from mesh_contracts.ask import Principal, Problem
from mesh_contracts.placement import Command, Resources, SubmitJob
from mesh_contracts.units import derived_id
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshkit.config import Settings, read_secret
from meshkit.principal import seal

SHAPES = ({"gpus": 1}, {"gpus": 1}, {"gpu_milli": 500}, {"gpus": 2}, {"gpu_milli": 250}, {"gpus": 4})
"""What is asked for, in turn."""
PROJECTS = 16
"""Whose jobs they are, in turn: one project may not have so many."""
RUN = Command(image="registry.example/train:1", argv=["train"])
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
WARM_UP = 500
ANSWER_WITHIN_S = 10.0


def project_id(number: int) -> str:
    """Return one of the projects that jobs are submitted in."""
    return derived_id("project", BEGAN, "bench", str(number))


class Asking:
    """Asks, and notes how long each answer took."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.outcomes: Counter[str] = Counter()
        self.took_s: list[float] = []
        expires_at = SystemClock().now() + timedelta(hours=1)
        admin = Principal(principal_id="bench", role="admin", expires_at=expires_at)
        # A gateway seals a principal once a key, not once an ask.
        self._principal = seal(admin, bus.secret)

    async def ask(self, number: int, run: str) -> None:
        """Submit a job of one member, under a key of its own."""
        shape: dict[str, Any] = SHAPES[number % len(SHAPES)]
        wish = self._bus.wish(
            self._principal, timeout_s=ANSWER_WITHIN_S, idempotency_key=f"{run}/{number}"
        )
        began = time.perf_counter()
        answer = await self._bus.ask(
            SubmitJob(
                **wish,
                name=f"job-{run.replace('/', '-')}-{number}",
                project=project_id(number % PROJECTS),
                command=RUN,
                resources=Resources(**shape),
            )
        )
        self.took_s.append(time.perf_counter() - began)
        self.outcomes[answer.code if isinstance(answer, Problem) else answer.state] += 1

    async def all_at_once(self, at_once: int, asks: int, run: str) -> float:
        """Keep so many asks under way; return how long all took."""
        numbers = iter(range(asks))

        async def one_after_the_other() -> None:
            for number in numbers:
                await self.ask(number, run)

        began = time.perf_counter()
        await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
        return time.perf_counter() - began

    async def at_rate(self, rate: float, asks: int, run: str) -> float:
        """Begin asks at a rate; return how long all took."""
        began = time.perf_counter()
        tasks = []
        for number in range(asks):
            wait = began + number / rate - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(self.ask(number, run)))
        await asyncio.gather(*tasks)
        return time.perf_counter() - began


async def measure(url: str, secret: Path, at_once: int, asks: int, rate: float) -> dict[str, Any]:
    """Return how many were answered a second, and how long each waited."""
    nobody = Path(os.devnull)
    settings = Settings(nats_url=url, nats_credentials=nobody, mesh_secret_file=secret)
    bus = await Bus.connect(
        settings, user="inference-gateway", clock=SystemClock(), secret=read_secret(secret)
    )
    asking, run = Asking(bus), f"{os.getpid()}"
    await asking.all_at_once(at_once or 16, WARM_UP, f"{run}/warm")
    asking.took_s.clear()
    asking.outcomes.clear()
    if rate:
        took = await asking.at_rate(rate, asks, run)
    else:
        took = await asking.all_at_once(at_once, asks, run)
    await bus.close()
    waits = sorted(asking.took_s)
    return {
        "asks": asks,
        "at_once": at_once,
        "rate_per_s": rate,
        "answered_per_s": round(asks / took, 1),
        "p50_ms": round(waits[len(waits) // 2] * 1e3, 2),
        "p99_ms": round(waits[int(len(waits) * 0.99)] * 1e3, 2),
        "max_ms": round(waits[-1] * 1e3, 2),
        "outcomes": dict(asking.outcomes),
    }


if __name__ == "__main__":
    _, _url, _secret, _at_once, _asks, *_rate = sys.argv
    _arguments = (_url, Path(_secret), int(_at_once), int(_asks), float(_rate[0]) if _rate else 0.0)
    print(json.dumps(uvloop.run(measure(*_arguments))))
