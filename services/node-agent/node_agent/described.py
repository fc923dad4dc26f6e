"""What a node says of itself when its agent starts."""

import os
from importlib.metadata import version
from typing import Any

from node_agent.devices import Devices
from node_agent.devices.declared import Declared
from node_agent.settings import AgentSettings

MIB = 1024**2


def described(settings: AgentSettings, devices: Devices) -> dict[str, Any]:
    """Return the fields of ``NodeJoined`` that are the node's own.

    Of a server that the agent runs beside nothing but the whole is to be had: no memory, no CPU.
    """
    here = not isinstance(devices, Declared)
    return {
        "name": settings.agent_name,
        "jurisdiction": settings.agent_jurisdiction,
        "devices": list(devices.listed()),
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB if here else 0,
        "cpus": (os.cpu_count() or 1) if here else 0,
        "address": settings.agent_address,
        "agent_version": version("mesh-node-agent"),
        "place": dict(settings.agent_place),
        "assurances": list(settings.agent_assurances),
        "idle_w": settings.agent_idle_w,
        "gpu_w": settings.agent_gpu_w,
    }
