"""Which hold the agent has of its server: none yet of a real one, a rehearsal's of one that is not there."""

from node_agent.devices import Devices
from node_agent.devices.rehearsal import Rehearsal
from node_agent.servers import Server, Unmanaged
from node_agent.servers.rehearsal import RehearsalServer


def open_server(name: str, devices: Devices) -> Server:
    """Return the server of these devices."""
    if isinstance(devices, Rehearsal):
        return RehearsalServer(name, devices.lease_fault)
    return Unmanaged()
