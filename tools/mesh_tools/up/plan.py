"""Which processes a mesh is made of, and what each is told. Pure: no process is started here."""

import sys
from collections.abc import Mapping

import msgspec
from mesh_contracts.streams import USERS
from mesh_contracts.units import DEFAULT_SITE

from mesh_tools.up.layout import Layout

STORED = ("identity", "placement", "metering", "carbon")
"""Owners with a database of their own."""

PACKAGES = {
    "identity": "identity",
    "placement": "placement",
    "gateway": "inference_gateway",
    "metering": "metering",
    "carbon": "carbon_accounting",
}
KEPT = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "PYTHONDONTWRITEBYTECODE",
)
"""What a service gets of our own environment, besides the prefixes below: nothing else leaks in."""
KEPT_PREFIXES = (
    "OTEL_",
    "AGENT_",
    "GATEWAY_",
    "IDENTITY_",
    "PLACEMENT_",
    "METERING_",
    "CARBON_",
    "MESH_TRACE_",
)
SERVICES = tuple(USERS[owner] for owner in PACKAGES)
ENERGY_INTERVAL_S = 5


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One process: its name in messages and files, its service, what it runs, what it is told."""

    name: str
    service: str
    package: str
    environment: dict[str, str]
    ops_port: int
    lifeline: bool = False


NODES_PER_RACK = 2
IDLE_W, GPU_W = 300, 625
"""What a rehearsed server draws when it does nothing, and what each of its GPUs at work adds."""


def nodes_of(count: int) -> list[str]:
    """Return the names of ``count`` nodes."""
    return [f"node-{number}" for number in range(1, count + 1)]


def gateways_of(count: int) -> list[str]:
    """Return the names of ``count`` gateways that share one port; the first is called as a lone one."""
    first = USERS["gateway"]
    return [first, *(f"{first}-{number}" for number in range(2, count + 1))]


def port_names(nodes: int, gateways: int = 1) -> list[str]:
    """Return the names of every internal port."""
    served = (*SERVICES, *gateways_of(gateways)[1:], *nodes_of(nodes))
    return ["nats", "postgres", *(f"ops.{name}" for name in served)]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What all processes of one mesh have in common."""

    ports: dict[str, int]
    gateway_port: int
    environ: Mapping[str, str]
    address: str = "127.0.0.1"
    gateways: int = 1


def kept(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of our own environment that services may have."""
    return {
        name: value
        for name, value in environ.items()
        if name in KEPT or name.startswith("LC_") or name.startswith(KEPT_PREFIXES)
    }


def service(
    layout: Layout, told: Told, owner: str, dsn: str | None, *, name: str | None = None
) -> Spec:
    """Return the process of one service. ``dsn`` is its database's, where it has one.

    ``name`` tells the processes of one service apart, where there are several (``gateways_of``).
    """
    user = USERS[owner]
    name = name or user
    environment = _common(layout, told, name, layout.keys / f"{user}.nk")
    if dsn is not None:
        environment["POSTGRES_DSN"] = dsn
    keys = layout.keys
    own = {
        "identity": {
            "IDENTITY_BOOTSTRAP_FILE": str(keys / "bootstrap.json"),
            "IDENTITY_CALLOUT_SEED_FILE": str(keys / "callout.nk"),
        },
        "gateway": {
            "GATEWAY_HOST": told.address,
            "GATEWAY_PORT": str(told.gateway_port),
            "GATEWAY_DATA_DIR": str(layout.door(name)),
            "GATEWAY_REUSE_PORT": str(told.gateways > 1).lower(),
        },
        "carbon": {"CARBON_SIGNING_KEY_FILE": str(keys / "receipts.pem")},
    }
    environment |= own.get(owner, {})
    return Spec(
        name=name,
        service=user,
        package=PACKAGES[owner],
        environment=environment,
        ops_port=told.ports[f"ops.{name}"],
    )


def place_of(name: str) -> str:
    """Return where a rehearsed node stands: two nodes a rack, each rack one NVLink domain, all on one PDU."""
    _, _, number = name.rpartition("-")
    rack = (int(number) + 1) // NODES_PER_RACK if number.isdigit() else 1
    return f"rack=rack-{rack},nvlink=rack-{rack},pdu=pdu-1,row=row-1,hall=hall-1"


def agent(layout: Layout, told: Told, name: str) -> Spec:
    """Return the process of one node's agent."""
    folder = layout.nodes / name
    environment = {
        "AGENT_DEVICES": "rehearsal",
        "AGENT_JOBS": "process",
        "AGENT_REHEARSAL_GPUS": "2",
        "AGENT_JURISDICTION": "FR",
        "AGENT_PLACE": place_of(name),
        "AGENT_IDLE_W": str(IDLE_W),
        "AGENT_GPU_W": str(GPU_W),
        "AGENT_ADDRESS": "127.0.0.1",
        "AGENT_ENERGY_INTERVAL_S": str(ENERGY_INTERVAL_S),
        **_common(layout, told, name, folder / "bus.nk"),
        "AGENT_DATA_DIR": str(folder),
        "AGENT_NAME": name,
        "AGENT_JOIN_TOKEN_FILE": str(layout.keys / "join.token"),
        "AGENT_MODELS_DIR": str(layout.models),
    }
    return Spec(
        name=name,
        service="node-agent",
        package="node_agent",
        environment=environment,
        ops_port=told.ports[f"ops.{name}"],
        lifeline=True,
    )


def command(spec: Spec) -> list[str]:
    """Return what runs a process: the same on a laptop and in a container."""
    return [sys.executable, "-P", "-m", spec.package]


def _common(layout: Layout, told: Told, name: str, credentials: object) -> dict[str, str]:
    return {
        "MESH_SITE": DEFAULT_SITE,
        **kept(told.environ),
        "NATS_URL": f"nats://127.0.0.1:{told.ports['nats']}",
        "NATS_CREDENTIALS": str(credentials),
        "MESH_SECRET_FILE": str(layout.keys / "mesh.secret"),
        "MESH_TRACE_DIR": str(layout.traces),
        "MESH_OPS_PORT": str(told.ports[f"ops.{name}"]),
        "PYTHONUNBUFFERED": "1",
    }
