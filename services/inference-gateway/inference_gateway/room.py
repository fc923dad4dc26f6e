"""What every call needs around it."""

import msgspec
from meshkit.clock import Clock

from inference_gateway.activity import Activity
from inference_gateway.calls import Calls
from inference_gateway.domain.admission import Admission
from inference_gateway.domain.directory import Directory
from inference_gateway.meter import Meter
from inference_gateway.tally import Tally
from inference_gateway.upstream import Upstreams
from inference_gateway.waiting import Lines


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """The door's memory, its way to engines and its meter.

    ``salt`` is the secret that keeps one project's prefix cache apart from another's.
    """

    activity: Activity
    admission: Admission
    calls: Calls
    clock: Clock
    directory: Directory
    lines: Lines
    meter: Meter
    salt: bytes
    tally: Tally
    upstreams: Upstreams
