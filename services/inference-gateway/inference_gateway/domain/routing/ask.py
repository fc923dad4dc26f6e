"""What a choice depends on, and the names of the rules that decide it."""

from typing import Literal

import msgspec

By = Literal["only", "least_load", "prefix", "session", "lora", "round_robin", "probe", "retry"]


class Ask(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known of a request. ``prefix`` is the prompt as written, ``tokens`` an upper bound.

    ``tried`` are the workloads that gave nothing; ``tier`` is the client's ``service_tier``, which says
    where the request waits, if it has to.
    """

    key_id: str
    tokens: int
    session: str | None = None
    prefix: bytes | memoryview | msgspec.Raw | None = None
    lora: str | None = None
    tried: tuple[str, ...] = ()
    tier: str | None = None
