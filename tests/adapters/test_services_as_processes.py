"""Identity and metering as the processes they are: told by their environment, killed, told to stop."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from mesh_contracts import wire
from mesh_contracts.fact import subject_of
from mesh_contracts.metering import ListUsage, ProducerMark
from meshkit.bucket import Watched

from tests.adapters.roads import until
from tests.adapters.services import ADMIN, connected, told
from tests.adapters.test_metering_ledger import PRODUCER, batch, row
from tests.closed_bus import ClosedBus, closed_bus
from tests.servers_nats import free_port
from tests.servers_postgres import PostgresServer

BATCHES, ROWS = 120, 7


def environment(bus: ClosedBus, folder: Path, user: str, **more: str) -> dict[str, str]:
    given = {name.upper(): str(value) for name, value in told(bus, folder, user).items()}
    return {"PATH": os.environ["PATH"], **given, **more}


@contextmanager
def running(package: str, environ: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", package], env=environ, stdout=said, stderr=said
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ready(port: int) -> bool:
    url = f"http://127.0.0.1:{port}/readyz"
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
        return bool(answer.status == 200)
    return False


@asynccontextmanager
async def bus() -> AsyncIterator[ClosedBus]:
    async with closed_bus() as closed:
        yield closed


@pytest.mark.parametrize("package", ["identity", "metering"])
def test_a_service_that_is_told_nothing_names_everything_it_needs(package: str) -> None:
    said = subprocess.run(
        [sys.executable, "-m", package],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert said.returncode == 1
    for name in ("NATS_URL", "NATS_CREDENTIALS", "MESH_SECRET_FILE", "POSTGRES_DSN"):
        assert f"{name} is not set" in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.slow
@pytest.mark.parametrize("package", ["identity", "metering"])
async def test_a_service_becomes_ready_and_leaves_in_order_when_told(
    package: str, tmp_path: Path, postgres: PostgresServer
) -> None:
    async with bus() as closed:
        port = free_port()
        more = {"POSTGRES_DSN": postgres.dsn(package), "MESH_OPS_PORT": str(port)}
        if package == "identity":
            (tmp_path / "callout.nk").write_bytes(bytes(closed.issuer.seed))
            more["IDENTITY_CALLOUT_SEED_FILE"] = str(tmp_path / "callout.nk")
            content = {"organization": "demo", "project": "demo"}
            (tmp_path / "bootstrap.json").write_text(json.dumps(content))
            more["IDENTITY_BOOTSTRAP_FILE"] = str(tmp_path / "bootstrap.json")
        environ = environment(closed, tmp_path, package, **more)
        with running(package, environ, tmp_path / "log") as process:
            await until(lambda: ready(port), within_s=20)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 6) == 0, (tmp_path / "log").read_text()[-2000:]


@pytest.mark.slow
async def test_metering_killed_again_and_again_keeps_each_request_exactly_once(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    async with bus() as closed:
        port = free_port()
        more = {"POSTGRES_DSN": postgres.dsn("metering"), "MESH_OPS_PORT": str(port)}
        environ = environment(closed, tmp_path, "metering", **more)
        gateway = await connected(closed, tmp_path, "inference-gateway")
        marks: Watched[ProducerMark] = await Watched.open(gateway, "limits")

        def held() -> int:
            mark = marks.values.get(f"producer.{PRODUCER}")
            return 0 if mark is None else mark.sequence

        async def tell() -> None:
            for number in range(1, BATCHES + 1):
                one = batch(number, *(row(f"{number}/{place}") for place in range(ROWS)))
                await gateway.store(subject_of(one), wire.encode(one), msg_id=one.fact_id)
                await asyncio.sleep(0.02)

        telling = asyncio.create_task(tell())
        for kill_at in (5, 60):
            with running("metering", environ, tmp_path / "log"):
                await until(lambda least=kill_at: held() >= least, within_s=40)
        await telling
        with running("metering", environ, tmp_path / "log"):
            await until(lambda: held() == BATCHES and ready(port), within_s=40)
            usage = await gateway.ask(ListUsage(**gateway.wish(ADMIN)))
            (sums,) = usage.items
            # Each row costs 3.5 micro-euros: 840 of them come to 2,940, rounded nowhere on the way.
            assert (sums.requests, sums.cost_microeur) == (BATCHES * ROWS, BATCHES * ROWS * 7 // 2)
            assert (sums.prompt_tokens, sums.completion_tokens) == (
                BATCHES * ROWS * 10,
                BATCHES * ROWS * 20,
            )
        await marks.close()
        await gateway.close()
