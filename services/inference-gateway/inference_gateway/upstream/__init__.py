"""The way to engines, and never anything of the bus.

``pool`` keeps connections of our own to each replica that speaks plain HTTP/1.1 (``lines``); ``outside`` is
the way to those behind TLS. Both give an ``Exchange``: one request, one answer.
"""

from inference_gateway.upstream.exchange import Broken, Exchange
from inference_gateway.upstream.pool import Upstreams

__all__ = ["Broken", "Exchange", "Upstreams"]
