"""``mesh tail [SUBJECT]``: facts as they are told, one line each; ends with Ctrl-C.

Hears the bus as user ``observer``, which may publish nothing. ``SUBJECT`` takes NATS' wildcards:
``placement.>``, ``*.node.*.>``.
"""

import argparse
import asyncio
import json
import signal
import sys
from typing import Any

from mesh_tools.cli import where

OWNERS = ("identity", "placement", "agent", "gateway", "metering", "carbon")
WIDTH_MAX = 4_000
SUBJECTS = f"facts begin with one of {', '.join(OWNERS)} (e.g. placement.>)"
AGAIN_MAX = 10
AGAIN_S = 1
"""The bus is looked for so often, so far apart, once it is away: it is restarted within seconds."""
ENVELOPE = frozenset(
    {
        "fact_id",
        "tag",
        "key",
        "version",
        "site",
        "occurred_at",
        "recorded_at",
        "cause_id",
        "actor",
        "traceparent",
    }
)


def main(argv: list[str]) -> int:
    """Print facts until interrupted; return the exit code."""
    parser = argparse.ArgumentParser(prog="mesh tail", description="Facts as they are told.")
    parser.add_argument("subject", nargs="?", help="only these subjects (all), e.g. placement.>")
    parser.add_argument("--json", action="store_true", help="whole facts, one JSON object a line")
    parser.add_argument("--limit", type=int, default=0, help="end after so many (0: never)")
    parser.add_argument("--data", help="the data folder of a running `mesh up` (.mesh)")
    wanted = parser.parse_args(argv)
    try:
        told = where.state(wanted.data)
        seed = (where.data_folder(wanted.data) / "keys" / "observer.nk").read_text().strip()
    except (where.NotFound, OSError) as fault:
        print(f"mesh tail: {fault}", file=sys.stderr)
        return 1
    subjects = [wanted.subject] if wanted.subject else [f"{owner}.>" for owner in OWNERS]
    print(f"listening to {', '.join(subjects)}", file=sys.stderr, flush=True)
    return asyncio.run(listen(str(told["nats_url"]), seed, subjects, wanted))


async def listen(url: str, seed: str, subjects: list[str], wanted: argparse.Namespace) -> int:
    """Print what comes in on ``subjects``; return the exit code."""
    from meshkit.natspy import Client, errors  # noqa: PLC0415 after the first words: it is slow to import

    loop = asyncio.get_running_loop()
    tail = Tail(loop.create_future(), limit=wanted.limit, whole=wanted.json)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, tail.end, 0)
    connection = Client()
    try:
        await connection.connect(
            url,
            nkeys_seed_str=seed,
            error_cb=tail.refused,
            disconnected_cb=tail.away,
            reconnected_cb=tail.back,
            closed_cb=tail.gone,
            connect_timeout=2,
            max_reconnect_attempts=AGAIN_MAX,
            reconnect_time_wait=AGAIN_S,
        )
        for subject in subjects:
            await connection.subscribe(subject, cb=tail.heard)
    except errors.BadSubjectError:
        say(f"{wanted.subject!r} is no subject: {SUBJECTS}")
        return 1
    except Exception as fault:  # noqa: BLE001 whatever the client raises, a person reads one line
        say(f"the bus at {url} does not let us in: {fault}")
        return 1
    code = await tail.ended
    await connection.close()
    return code


class Tail:
    """What is done with each fact, and with the bus's coming and going; ``ended`` gets the exit code."""

    def __init__(self, ended: asyncio.Future[int], *, limit: int, whole: bool) -> None:
        self.ended = ended
        self._limit = limit
        self._whole = whole
        self._shown = 0

    def end(self, code: int) -> None:
        """Show no more."""
        if not self.ended.done():
            self.ended.set_result(code)

    async def heard(self, message: Any) -> None:
        """Show a fact."""
        if self.ended.done():
            return
        try:
            print(line(message.subject, message.data, whole=self._whole), flush=True)
        except BrokenPipeError:
            # Whoever read us has seen enough (`mesh tail | head`): the client would keep it to itself.
            self.end(0)
        self._shown += 1
        if self._shown == self._limit:
            self.end(0)

    async def refused(self, fault: Exception) -> None:
        """End where the bus does not let us hear what was wished for."""
        if "permissions violation" in str(fault).lower():
            say(f"{fault}: {SUBJECTS}")
            self.end(1)

    async def away(self) -> None:
        """Say that facts may be missed."""
        if not self.ended.done():
            say("the bus is away; what is told meanwhile is not shown")

    async def back(self) -> None:
        """Say that facts go by again."""
        say("the bus is back")

    async def gone(self) -> None:
        """End: the bus did not come back."""
        self.end(1)


def say(text: str) -> None:
    """Print a line where errors go."""
    print(f"mesh tail: {text}", file=sys.stderr, flush=True)


def line(subject: str, data: bytes, *, whole: bool) -> str:
    """Return one line for one fact."""
    try:
        fact = json.loads(data)
    except ValueError:
        return f"{subject} ({len(data)} bytes that are no JSON)"
    if whole or not isinstance(fact, dict):
        return json.dumps({"subject": subject, "fact": fact}, ensure_ascii=False)
    own = {name: value for name, value in fact.items() if name not in ENVELOPE}
    time = str(fact.get("recorded_at") or fact.get("occurred_at") or "")[11:23]
    said = json.dumps(own, ensure_ascii=False)
    cut = said if len(said) <= WIDTH_MAX else said[:WIDTH_MAX] + " …"
    return f"{time}  {fact.get('tag')}  {fact.get('key')}  {cut}"
