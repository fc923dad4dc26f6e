"""The yardstick of ``mesh bench bus``: FastStream's typed JetStream handler, one message at a time.

Runs in an environment of its own (``faststream.lock``), so it imports nothing of ours. It reads
``count`` stored messages of ``stream`` under ``subject`` with a durable pull subscriber, decodes
each into a model with the fields of our fact, acknowledges each, and prints one JSON object.
"""

import asyncio
import json
import logging
import sys
import time
from datetime import datetime

import uvloop
from faststream import FastStream
from faststream.nats import JStream, NatsBroker, PullSub
from pydantic import BaseModel


class UsageRecorded(BaseModel):
    """The fields of ``metering.usage.recorded/1``."""

    tag: str
    fact_id: str
    key: str
    site: str
    occurred_at: datetime
    version: int
    recorded_at: datetime
    project: str
    cause_id: str
    traceparent: str
    model: str
    interval_start: datetime
    interval_end: datetime
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_microeur: int


async def measure(url: str, stream: str, subject: str, count: int, run: str) -> dict[str, float]:
    """Return messages a second from the first handled to the last, and CPU microseconds a message."""
    broker = NatsBroker(url, logger=None)
    done = asyncio.Event()
    handled = 0
    began = cpu_began = 0.0

    @broker.subscriber(
        subject,
        stream=JStream(stream, declare=False),
        durable=f"faststream_{run}",
        pull_sub=PullSub(batch_size=100),
    )
    async def on_usage(usage: UsageRecorded) -> None:
        nonlocal handled, began, cpu_began
        if handled == 0:
            began, cpu_began = time.perf_counter(), time.process_time()
        assert usage.requests >= 0
        handled += 1
        if handled == count:
            done.set()

    app = FastStream(broker, logger=None)
    running = asyncio.create_task(app.run(log_level=logging.CRITICAL))
    await done.wait()
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu_began
    app.exit()
    await running
    return {"per_s": count / wall, "cpu_us": cpu / count * 1e6}


if __name__ == "__main__":
    print(
        json.dumps(
            uvloop.run(measure(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]))
        )
    )
