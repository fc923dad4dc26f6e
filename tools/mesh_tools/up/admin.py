"""The deploy step of the bus: streams, buckets and consumers, declared from the contracts' table.

``python -m mesh_tools.up.admin`` with ``NATS_URL`` and ``NATS_CREDENTIALS``; ends when it is done.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from mesh_tools.embedded import tied


def run_apart(url: str, credentials: Path, log: Path | None) -> int:
    """Run the step in a process of its own (its imports need not stay with us); return its exit code.

    What it says goes to ``log``, or to our own output.
    """
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "NATS_URL": url,
        "NATS_CREDENTIALS": str(credentials),
    }
    command = [sys.executable, "-P", "-m", "mesh_tools.up.admin"]
    with log.open("ab") if log else contextlib.nullcontext() as out:
        return subprocess.run(
            tied.command(signal.SIGKILL, *command),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            process_group=0,
            check=False,
        ).returncode


async def main(url: str, seed: str) -> None:
    """Declare all of it; safe to repeat."""
    # The supervisor imports this module, and needs none of these.
    from mesh_contracts.rights import ADMIN, inbox_of  # noqa: PLC0415
    from meshkit.declare import declare  # noqa: PLC0415
    from meshkit.natspy import Client  # noqa: PLC0415

    connection = Client()
    await connection.connect(
        url,
        nkeys_seed_str=seed,
        inbox_prefix=inbox_of(ADMIN),
        connect_timeout=5,
        max_reconnect_attempts=20,
        reconnect_time_wait=1,
    )
    try:
        await declare(connection)
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(os.environ["NATS_URL"], Path(os.environ["NATS_CREDENTIALS"]).read_text().strip()))
