"""What every call needs around it."""

import msgspec
from meshkit.clock import Clock

from inference_gateway.calls import Calls
from inference_gateway.domain.directory import Directory
from inference_gateway.meter import Meter
from inference_gateway.tally import Tally
from inference_gateway.upstream import Upstreams


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """The door's memory, its way to engines and its meter."""

    calls: Calls
    clock: Clock
    directory: Directory
    in_flight: dict[str, int]
    meter: Meter
    tally: Tally
    upstreams: Upstreams
