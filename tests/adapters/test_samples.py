"""Samples over a real nats-server: heard from the node they speak of, and from no other."""

from pathlib import Path

from mesh_contracts import wire
from mesh_contracts.node import Heartbeat
from mesh_contracts.units import DEFAULT_SITE
from meshkit.samples import hear_samples
from meshkit.telemetry import METRICS
from meshkit.testing import NOW, test_id

from tests.adapters.roads import connected, until
from tests.servers_nats import NatsServer


async def test_a_node_that_speaks_of_another_is_not_heard(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    mine, theirs = test_id("node", "mine"), test_id("node", "theirs")
    bus = await connected(tmp_path, nats_server.url, "placement")
    heard: list[Heartbeat] = []
    before = METRICS.value("mesh_samples_refused_total", noun="agent.heartbeat")
    hearing = await hear_samples(bus, "agent.heartbeat", DEFAULT_SITE, heard.append)
    for sequence, node in enumerate((theirs, mine)):
        beat = Heartbeat(node_id=node, at=NOW, sequence=sequence, check=0, workloads=[])
        await bus.publish(f"sample.agent.heartbeat.{DEFAULT_SITE}.{mine}", wire.encode(beat))

    # Nor does one that nobody can read end the hearing.
    await bus.publish(f"sample.agent.heartbeat.{DEFAULT_SITE}.{mine}", b'{"z":' + b"[" * 100_000)
    await until(
        lambda: METRICS.value("mesh_samples_refused_total", noun="agent.heartbeat") == before + 2
    )
    assert [beat.node_id for beat in heard] == [mine]
    await hearing.stop()
    await bus.close()
