"""Halls to decide on: servers of eight GPUs, or NVL72 racks, with their power and fabric."""

from collections.abc import Iterator

import msgspec
from placement.domain.engine.engine import Engine
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.wish import Capped

SERVER_GPUS = 8
SERVERS_PER_RACK = 4
TRAY_GPUS = 4
TRAYS_PER_RACK = 18
RACKS_PER_PDU = 8
PDUS_PER_ROW = 4
ROWS_PER_HALL = 4
RACKS_PER_LEAF = 4
GPU_IDLE_W, GPU_FULL_W = 100, 1_000
NODE_W = 1_500
ROOM = 1.02
"""Caps are so much above what a full domain draws by plan: watched at each decision, and they hold."""


def servers(gpus: int) -> Iterator[NodeSpec]:
    """Yield servers of eight GPUs, four a rack, until there are so many GPUs."""
    for number in range(gpus // SERVER_GPUS):
        yield NodeSpec(
            node=f"server-{number:05d}",
            model="B200",
            gpus=SERVER_GPUS,
            cpu_milli=144_000,
            memory_mib=786_432,
            jurisdiction="FR",
            assurances=("hds", "secnumcloud"),
            place=_place(number // SERVERS_PER_RACK, f"n{number}"),
            idle_w=NODE_W + SERVER_GPUS * GPU_IDLE_W,
            gpu_w=GPU_FULL_W - GPU_IDLE_W,
        )


def trays(racks: int) -> Iterator[NodeSpec]:
    """Yield the trays of so many NVL72 racks: 18 of four GPUs, one NVLink domain."""
    for number in range(racks * TRAYS_PER_RACK):
        rack = number // TRAYS_PER_RACK
        yield NodeSpec(
            node=f"tray-{rack:03d}-{number % TRAYS_PER_RACK:02d}",
            model="GB200",
            gpus=TRAY_GPUS,
            cpu_milli=144_000,
            memory_mib=917_504,
            jurisdiction="FR",
            assurances=("hds", "secnumcloud"),
            place=_place(rack, f"d{rack}"),
            idle_w=NODE_W + TRAY_GPUS * GPU_IDLE_W,
            gpu_w=GPU_FULL_W - GPU_IDLE_W,
        )


def cap_all(engine: Engine) -> None:
    """Cap each rack, PDU, row, hall and the site a little above what it draws when it is full."""
    site = engine.site
    for level in ("rack", "pdu", "row", "hall", "site"):
        full: dict[str, int] = {}
        for spec in site.specs:
            name = spec.place.get(level, "site")
            full[name] = full.get(name, 0) + spec.idle_w + spec.gpus * spec.gpu_w
        for name, watts in full.items():
            engine.apply(Capped(level=level, domain=name, watts=int(watts * ROOM)))


def _place(rack: int, nvlink: str) -> dict[str, str]:
    pdu = rack // RACKS_PER_PDU
    row = pdu // PDUS_PER_ROW
    return {
        "nvlink": nvlink,
        "rack": f"r{rack}",
        "leaf": f"l{rack // RACKS_PER_LEAF}",
        "rail": f"p{row}",
        "pdu": f"u{pdu}",
        "row": f"w{row}",
        "hall": f"h{row // ROWS_PER_HALL}",
    }


def anywhere(size: Size) -> Size:
    """Return a trace's size on our servers: their one model, and no more CPU than there is a GPU."""
    return msgspec.structs.replace(size, models=(), cpu_milli=min(size.cpu_milli, 144_000))


def terms(number: int) -> Terms:
    """Return the terms of the n-th wish: of one of 50 tenants, in France, some of it certified."""
    return Terms(
        jurisdictions=("FR",) if number % 2 else ("DE", "FR"),
        assurances=("hds",) if number % 5 == 0 else (),
        tenant=f"tenant-{number % 50}",
    )
