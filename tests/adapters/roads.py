"""What the tests of the roads share: a declared bus, a store, facts to tell."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mesh_contracts import wire
from mesh_contracts.fact import Fact, subject_of
from mesh_contracts.identity import KeyRevoked, NodeEnrolled, ProjectAdmitted
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshkit.config import Secret, Settings, StoreSettings
from meshkit.store import Store
from meshkit.testing import envelope, test_id

SECRET = "a secret for tests"


def settings(
    folder: Path, url: str, dsn: str | None = None, kind: type[StoreSettings] = StoreSettings
) -> Any:
    """Return settings for a server without authentication; with a database, of that ``kind``."""
    credentials, secret = folder / "none.nk", folder / "secret"
    credentials.touch()
    secret.write_text(SECRET)
    common = {"nats_url": url, "nats_credentials": credentials, "mesh_secret_file": secret}
    if dsn is None:
        return Settings(**common)
    return kind(**common, postgres_dsn=Secret(dsn))


async def connected(folder: Path, url: str, user: str = "metering") -> Bus:
    return await Bus.connect(
        settings(folder, url), user=user, clock=SystemClock(), secret=Secret(SECRET)
    )


async def opened(dsn: str, owner: str = "metering") -> Store:
    return await Store.connect(Secret(dsn), owner=owner, clock=SystemClock())


def admitted(key: str = "", **fields: Any) -> ProjectAdmitted:
    """Return a fact that both metering and placement read."""
    project = key or test_id("project")
    return ProjectAdmitted(**envelope(project, **fields), name="demo", organization_name="demo")


def enrolled(key: str = "", **fields: Any) -> NodeEnrolled:
    node = key or test_id("node")
    return NodeEnrolled(
        **envelope(node, **fields), node_id=test_id("node", node), name="n1", public_key="U"
    )


def revoked(key: str) -> KeyRevoked:
    return KeyRevoked(**envelope(key), key_id=test_id("key", key))


async def tell(bus: Bus, *facts: Fact) -> None:
    """Put facts on their stream, one after the other, as their owner's relay would."""
    for fact in facts:
        await bus.store(subject_of(fact), wire.encode(fact), msg_id=fact.fact_id)


async def until(true: Callable[[], Any], within_s: float = 10.0) -> None:
    """Wait until ``true()``, a condition nobody announces."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "it did not come true"
        await asyncio.sleep(0.01)


async def eventually(have: Callable[[], Awaitable[Any]], want: Any, within_s: float = 15.0) -> None:
    try:
        async with asyncio.timeout(within_s):
            while await have() != want:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{await have()} never became {want}") from None
