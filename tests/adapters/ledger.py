"""Carbon-accounting as a whole service, a meter and a usage ledger that say what a test wants."""

from datetime import datetime, timedelta
from itertools import count
from typing import Any

from mesh_contracts import wire
from mesh_contracts.carbon import (
    FootprintSettled,
    GetReceipt,
    Receipt,
)
from mesh_contracts.inference import UsageRow
from mesh_contracts.metering import RatedRow, UsageRated
from mesh_contracts.node import EnergyMeasured, NodeJoined
from mesh_contracts.units import EnergyUj, MoneyMicroeur
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshkit.service import Service
from meshkit.testing import envelope, test_id

from tests.adapters.fleet import ADMIN, ORGANIZATION, PROJECT, TENANT, eventually
from tests.adapters.roads import tell

NODE = test_id("node", "n1")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Ledger:
    """A bus, carbon-accounting, a node's meter, and the usage ledger that tells its lines."""

    def __init__(self, bus: Bus, service: Service) -> None:
        self.bus, self.service = bus, service
        self.began = SystemClock().now() - timedelta(seconds=60)
        self._versions = count(1)
        self._sequence = count(1)

    def at(self, seconds: float) -> datetime:
        return self.began + timedelta(seconds=seconds)

    async def joined(self, jurisdiction: str = "FR") -> None:
        await tell(
            self.bus,
            NodeJoined(
                **envelope(NODE, version=next(self._versions)),
                node_id=NODE,
                name="n1",
                jurisdiction=jurisdiction,
                devices=[],
                memory_mib=1,
                cpus=1,
                address="127.0.0.1",
                agent_version="test",
            ),
        )

    async def measured(
        self, seconds: float, counter: int, idle: int = 0, epoch: int = 1, **fields: Any
    ) -> None:
        await tell(
            self.bus,
            EnergyMeasured(
                **envelope(NODE, version=next(self._versions)),
                node_id=NODE,
                epoch=epoch,
                measured_at=self.at(seconds),
                counter_uj=EnergyUj(counter),
                idle_counter_uj=EnergyUj(idle),
                quality="estimated",
                source="rehearsal model",
                devices=[],
                **fields,
            ),
        )

    def row(self, seconds: float, project: str = PROJECT, **fields: Any) -> RatedRow:
        usage = {
            "request_id": test_id("request"),
            "organization": ORGANIZATION,
            "project": project,
            "key_id": test_id("key", project),
            "endpoint_id": test_id("endpoint", project),
            "model": "tiny",
            "route": "chat",
            "streamed": False,
            "started_at": self.at(seconds - 1),
            "ended_at": self.at(seconds),
            "state": "completed",
            "status": 200,
            "tokens_from": "engine",
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "node_id": NODE,
            "traceparent": TRACE,
            **fields,
        }
        return RatedRow(usage=UsageRow(**usage), cost_microeur=MoneyMicroeur(7), price_id="p1")

    async def rated(self, *rows: RatedRow) -> None:
        """Tell of rated lines, and wait until they are heard: an interval that is settled before has no share for them."""
        number = next(self._sequence)
        born = envelope("gateway-1", version=number)
        fact = UsageRated(**born, producer="gateway-1", epoch=1, sequence=number, rows=list(rows))
        await tell(self.bus, fact)
        told = {row.usage.request_id for row in rows}

        async def heard() -> bool:
            kept = await self.rows("SELECT request_id FROM request")
            return told <= {row["request_id"] for row in kept}

        await eventually(heard)

    async def ask(self, kind: Any, who: Any = TENANT, **fields: Any) -> Any:
        return await self.bus.ask(kind(**self.bus.wish(who), **fields))

    async def receipt(self, row: RatedRow, who: Any = TENANT) -> Any:
        return await self.ask(GetReceipt, who, request_id=row.usage.request_id)

    async def settled(self, row: RatedRow, who: Any = ADMIN) -> Receipt:
        async def look() -> Any:
            found = await self.receipt(row, who)
            return found if isinstance(found, Receipt) else None

        receipt: Receipt = await eventually(look)
        return receipt

    async def told(self) -> list[FootprintSettled]:
        found, sequence = [], 1
        while (stored := await self.bus.at("CARBON", sequence)) is not None:
            found.append(wire.decode(stored.data, FootprintSettled))
            sequence = stored.sequence + 1
        return found

    async def rows(self, sql: str) -> list[dict[str, Any]]:
        async with self.service.store.transaction() as tx:
            return await tx.rows(sql)
