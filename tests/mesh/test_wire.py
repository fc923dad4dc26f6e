"""The AsyncAPI document against the subjects that a whole mesh really uses."""

import asyncio
import json
from pathlib import Path
from typing import Any

import nats
import pytest
from mesh_contracts import asyncapi, rights
from mesh_contracts.rights import ADMIN, OBSERVER
from mesh_contracts.streams import BUCKETS, EVENTS, OWNERS, STREAMS, USERS
from mesh_tools import freeze
from nats.aio.client import Client

from tests.mesh.harness import Mesh, running, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

HEARD_WITHIN_S = 30.0
GOES_BY = (
    "sample.agent.heartbeat.",
    "sample.agent.power.",
    "agent.energy.measured.",
    "agent.health.changed.",
    "gateway.usage.metered.",
)
"""What no stream keeps once it is read: it is heard as it is told."""


async def connect(mesh: Mesh, user: str) -> Client:
    return await nats.connect(
        mesh.ready["nats_url"],
        nkeys_seed_str=(mesh.folder / "keys" / f"{user}.nk").read_text().strip(),
        inbox_prefix=rights.inbox_of(user).encode() + b".wire",
        allow_reconnect=False,
    )


async def stored(mesh: Mesh) -> set[str]:
    """Return every subject that a stream or bucket holds."""
    admin = await connect(mesh, ADMIN)
    subjects: set[str] = set()
    try:
        for name in (*(s.name for s in STREAMS), EVENTS.name, *(f"KV_{b.name}" for b in BUCKETS)):
            answer = await admin.request(
                f"$JS.API.STREAM.INFO.{name}", b'{"subjects_filter":">"}', timeout=5
            )
            kept = json.loads(answer.data)["state"].get("subjects", {})
            # What EVENTS keeps is heard under event.>
            subjects |= {f"event.{subject}" for subject in kept} if name == EVENTS.name else set(kept)
    finally:
        await admin.close()
    return subjects


async def answered(mesh: Mesh) -> set[str]:
    """Return every subject that services say they answer on."""
    gateway = await connect(mesh, USERS["gateway"])
    found: asyncio.Queue[Any] = asyncio.Queue()
    subjects: set[str] = set()
    try:
        await gateway.subscribe("_INBOX_inference-gateway.wire.found", cb=found.put)
        await gateway.publish("$SRV.INFO", reply="_INBOX_inference-gateway.wire.found")
        for _ in range(len([owner for owner in OWNERS if rights.answers_asks(owner)])):
            told = json.loads((await asyncio.wait_for(found.get(), 5)).data)
            subjects |= {endpoint["subject"] for endpoint in told["endpoints"]}
    finally:
        await gateway.close()
    return subjects


async def heard(mesh: Mesh) -> set[str]:
    """Return the subjects of samples and facts that go by, until each of ``GOES_BY`` has."""
    subjects: set[str] = set()
    all_heard = asyncio.Event()

    async def note(message: Any) -> None:
        subjects.add(message.subject)
        if all(any(subject.startswith(kind) for subject in subjects) for kind in GOES_BY):
            all_heard.set()

    placement, observer = await connect(mesh, "placement"), await connect(mesh, OBSERVER)
    try:
        for noun in ("heartbeat", "power"):
            await placement.subscribe(f"sample.agent.{noun}.>", cb=note)
        for owner in OWNERS:
            await observer.subscribe(f"{owner}.>", cb=note)
        await observer.flush()
        await asyncio.to_thread(cause, mesh)
        await asyncio.wait_for(all_heard.wait(), HEARD_WITHIN_S)
    finally:
        await placement.close()
        await observer.close()
    return subjects


def cause(mesh: Mesh) -> None:
    """Have something happen: a request, and a check of a node."""
    answer = mesh.tenant.call(
        "POST",
        "/v1/chat/completions",
        {"model": "tiny", "max_tokens": 2, "messages": [{"role": "user", "content": "hello"}]},
    )
    assert answer.status == 200
    answer = mesh.operator.call("POST", "/api/v1/nodes/node-1:check", {})
    assert answer.status in {200, 202}, answer.body


def test_every_subject_on_the_wire_stands_in_the_document(tmp_path: Path) -> None:
    described = json.loads((freeze.ROOT / "asyncapi.json").read_bytes())
    with running(tmp_path) as mesh:
        subjects = asyncio.run(heard(mesh)) | asyncio.run(answered(mesh))

        def settled() -> set[str] | None:
            subjects = asyncio.run(stored(mesh))
            return (
                subjects if any(s.startswith("carbon.footprint.settled.") for s in subjects) else None
            )

        subjects |= until("a footprint is settled", 30.0, settled)
    for kind in ("event.", "$KV.intents.", "ask."):
        assert any(subject.startswith(kind) for subject in subjects), f"nothing seen of {kind}"
    assert sorted(subject for subject in subjects if not asyncapi.covers(described, subject)) == []
