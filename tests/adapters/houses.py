"""Identity running on a closed bus, and the gateway's connection to it: what tests of the whole service share."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from identity.app import assemble
from identity.settings import IdentitySettings
from mesh_contracts import rights
from mesh_contracts.keytext import digest_of, hint_of, key_text
from meshkit import usertoken
from meshkit.bus import Bus
from meshkit.config import Secret
from meshkit.service import Service

from tests.adapters.roads import until
from tests.adapters.services import ADMIN, connected, told
from tests.closed_bus import ClosedBus

ADMIN_KEY, DEMO_KEY, JOIN = (key_text(role, "k" * 30) for role in ("admin", "project", "join"))


class House:
    """Identity running, and the gateway's connection to it."""

    def __init__(self, bus: ClosedBus, folder: Path, dsn: str) -> None:
        self.bus = bus
        self.folder = folder
        self.dsn = dsn
        self.service: Service
        self.gateway: Bus

    def settings(self, **fields: Any) -> IdentitySettings:
        seed = self.folder / "callout.nk"
        seed.write_bytes(bytes(self.bus.issuer.seed))
        content = {
            "organization": "demo",
            "project": "demo",
            "keys": [
                {"name": "admin", "role": "admin"} | self.shown(ADMIN_KEY),
                {"name": "demo", "role": "project", "project": "demo"} | self.shown(DEMO_KEY),
            ],
            "join_tokens": [{"digest": digest_of(JOIN), "uses": 3, "lifetime_s": 600}],
            "callout_seed_file": str(seed),
        }
        path = self.folder / "bootstrap.json"
        path.write_text(json.dumps(content))
        given = told(self.bus, self.folder, "identity", identity_bootstrap_file=path, **fields)
        return IdentitySettings(**given, postgres_dsn=Secret(self.dsn))

    @staticmethod
    def shown(key: str) -> dict[str, str]:
        return {"digest": digest_of(key), "hint": hint_of(key)}

    async def start(self, **fields: Any) -> None:
        self.service = assemble(self.settings(**fields))
        await self.service.start()
        await until(lambda: self.service._missing() == [])

    @asynccontextmanager
    async def node(self, seed: str, token: str | None = None) -> AsyncIterator[Bus]:
        inbox = rights.node_inbox_of(usertoken.public_key(seed))
        user = f"node {usertoken.public_key(seed)[:12]}"
        bus = await connected(self.bus, self.folder, user, seed=seed, inbox=inbox, token=token)
        try:
            yield bus
        finally:
            await bus.close()


async def asked(house: House, kind: Any, *, key: str | None = None, **fields: Any) -> Any:
    return await house.gateway.ask(kind(**house.gateway.wish(ADMIN, idempotency_key=key), **fields))
