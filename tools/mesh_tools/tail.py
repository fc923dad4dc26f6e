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
    from meshkit.natspy import Client  # noqa: PLC0415 after the first words: it is slow to import

    ended: asyncio.Queue[int] = asyncio.Queue()
    shown = 0

    async def refused(fault: Exception) -> None:
        if "permissions violation" in str(fault).lower():
            print(
                f"mesh tail: {fault}: facts begin with one of {', '.join(OWNERS)} (e.g. placement.>)",
                file=sys.stderr,
            )
            ended.put_nowait(1)

    async def heard(message: Any) -> None:
        nonlocal shown
        print(line(message.subject, message.data, whole=wanted.json), flush=True)
        shown += 1
        if shown == wanted.limit:
            ended.put_nowait(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.put_nowait, 0)
    connection = Client()
    try:
        await connection.connect(url, nkeys_seed_str=seed, error_cb=refused, connect_timeout=2)
    except Exception as fault:  # noqa: BLE001 whatever the client raises, a person reads one line
        print(f"mesh tail: the bus at {url} does not let us in: {fault}", file=sys.stderr)
        return 1
    for subject in subjects:
        await connection.subscribe(subject, cb=heard)
    code = await ended.get()
    await connection.close()
    return code


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
