"""A nats-server closed as in production: its configuration from the table, every stream declared."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mesh_contracts import rights
from mesh_contracts.units import DEFAULT_SITE
from meshkit import usertoken
from meshkit.declare import declare
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.scratch import scratch
from tests.servers_nats import NatsServer

SETTLED_WITHIN_S = 10
CONNECT_WITHIN_S = 8
"""Longer than the server waits for the callout's answer."""


class Caller:
    """One connection, and what the server refused it."""

    def __init__(self, client: Client, refused: list[str]) -> None:
        self.client = client
        self.refused = refused

    async def settle(self) -> None:
        """Return once the server has judged everything sent so far."""
        # A PING may overtake what is still pending in this client: the second one cannot.
        for _ in range(2):
            await self.client.flush(timeout=SETTLED_WITHIN_S)

    def denied(self, direction: str) -> set[str]:
        """Return the subjects refused so far, lower-cased as the client gives them."""
        lead = f"permissions violation for {direction} to "
        return {said.partition(lead)[2].strip('"') for said in self.refused if lead in said}


class ClosedBus:
    """The server, the seed of each of its users, and identity's answer to strangers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seeds = {user: usertoken.new_seed("user") for user in rights.STATIC_USERS}
        self.issuer = usertoken.key_pair(usertoken.new_seed("account"))
        self.nodes: dict[str, str] = {}
        """Node ids by public key: who is enrolled."""
        self.join_token = "a join token"
        self.life_s = 3_600
        config = folder / "nats.conf"
        self.server = NatsServer(folder, config=config)
        config.write_text(
            rights.nats_conf(
                {user: usertoken.public_key(seed) for user, seed in self.seeds.items()},
                port=self.server.port,
                store_dir=str(folder / "jetstream"),
                callout_issuer=self.issuer.public_key.decode(),
            )
        )

    @asynccontextmanager
    async def caller(
        self, user: str = "", *, seed: str = "", inbox: str = "", token: str | None = None
    ) -> AsyncIterator[Caller]:
        """Connect as a static user, or as whoever holds ``seed``; raises where the door stays shut."""
        refused: list[str] = []

        async def note(fault: Exception) -> None:
            refused.append(str(fault))

        credentials: dict[str, Any] = (
            {"nkeys_seed_str": seed or self.seeds[user]} if seed or user else {}
        )
        client = Client()
        try:
            await client.connect(
                self.server.url,
                inbox_prefix=(inbox or rights.inbox_of(user)).encode(),
                token=token,
                error_cb=note,
                allow_reconnect=False,
                connect_timeout=CONNECT_WITHIN_S,
                **credentials,
            )
            yield Caller(client, refused)
        finally:
            # A client that was refused keeps its socket until it is closed by hand.
            await client.close()
            transport: Any = client._transport
            if transport is not None:
                transport.close()

    @asynccontextmanager
    async def node(self, node_id: str = "", *, token: str | None = None) -> AsyncIterator[Caller]:
        """Connect as an enrolled node, or with only a join token."""
        seed = usertoken.new_seed("user")
        public = usertoken.public_key(seed)
        if node_id:
            self.nodes[public] = node_id
        async with self.caller(seed=seed, inbox=rights.node_inbox_of(public), token=token) as caller:
            yield caller

    async def answer_strangers(self, identity: Client) -> None:
        """Answer the server's callout as identity does: enrolled nodes, joining ones, nobody else."""

        async def answer(message: Msg) -> None:
            request = usertoken.read_request(message.data)
            now_s = int(time.time())
            granted = self._judge(request)
            if granted is None:
                reply = usertoken.response(self.issuer, request, now_s=now_s, refusal="not known here")
            else:
                user = usertoken.user_token(
                    self.issuer,
                    user_nkey=request.user_nkey,
                    account=rights.NODES_ACCOUNT,
                    name=request.public_key,
                    rights=granted,
                    now_s=now_s,
                    life_s=self.life_s,
                )
                reply = usertoken.response(self.issuer, request, now_s=now_s, user=user)
            await message.respond(reply)

        await identity.subscribe(rights.CALLOUT_SUBJECT, cb=answer)
        await identity.flush()

    def _judge(self, request: usertoken.Request) -> rights.Rights | None:
        if not request.proven():
            return None
        if request.public_key in self.nodes:
            return rights.node_rights(DEFAULT_SITE, self.nodes[request.public_key], request.public_key)
        if request.token == self.join_token:
            return rights.joining_rights(DEFAULT_SITE, request.public_key)
        return None


@asynccontextmanager
async def closed_bus() -> AsyncIterator[ClosedBus]:
    """Run one until the end of the block."""
    folder = scratch("mesh-closed-")
    bus = ClosedBus(folder)
    try:
        await asyncio.to_thread(bus.server.start)
        async with bus.caller("admin") as admin:
            await declare(admin.client)
        yield bus
    finally:
        await asyncio.to_thread(bus.server.stop)
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def answered_bus() -> AsyncIterator[ClosedBus]:
    """Run one whose strangers are answered, by identity's rights."""
    async with closed_bus() as bus, bus.caller("identity") as identity:
        await bus.answer_strangers(identity.client)
        yield bus
