"""What every call needs around it."""

import msgspec
from meshkit.clock import Clock

from inference_gateway.calls import Calls
from inference_gateway.domain.directory import Directory
from inference_gateway.engines import Engines
from inference_gateway.meter import Meter


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """The door's memory, its way to engines and its meter."""

    calls: Calls
    clock: Clock
    directory: Directory
    engines: Engines
    meter: Meter
