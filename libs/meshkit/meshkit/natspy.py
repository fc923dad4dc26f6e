"""nats-py's client, imported without aiohttp.

nats-py loads aiohttp where it is installed, for WebSockets, which nobody here uses: that is half of
the time to import it, in every process of a mesh.
"""

import sys
from types import ModuleType
from typing import cast

_NAME = "aiohttp"
_absent = _NAME not in sys.modules
if _absent:
    # What stands here as None cannot be imported: nats-py then goes without.
    sys.modules[_NAME] = cast("ModuleType", None)
try:
    from nats import errors
    from nats.aio.client import Client
    from nats.aio.subscription import Subscription
    from nats.aio.transport import TcpTransport
finally:
    if _absent:
        del sys.modules[_NAME]

__all__ = ["Client", "Subscription", "TcpTransport", "errors"]
