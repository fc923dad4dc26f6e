"""What keeps like with like: sessions and keys on one replica, adapters where they are loaded, caches apart."""

import hmac
from collections.abc import Iterable
from hashlib import blake2b

from mesh_contracts.placement import Route

LORA_STANDS_S = 600.0
"""How long a replica is believed to hold an adapter that it served."""

_WORD = 2**64 - 1


def point(text: str) -> int:
    """Return where a text stands among 2^64 places: the same in every gateway."""
    return int.from_bytes(blake2b(text.encode(errors="replace"), digest_size=8).digest(), "big")


def drawn(mine: int, theirs: int) -> int:
    """Return how strongly two points attract each other: rendezvous hashing takes the strongest."""
    mixed = (mine ^ theirs) * 0x9E3779B97F4A7C15 & _WORD
    mixed = (mixed ^ mixed >> 32) * 0xD6E8FEB86659FD93 & _WORD
    return mixed ^ mixed >> 32


class Warm:
    """Which replicas served which adapter lately. Bounded by the adapters and replicas an endpoint has."""

    __slots__ = ("_served",)

    def __init__(self) -> None:
        self._served: dict[str, dict[str, float]] = {}

    def note(self, lora: str, workload_id: str, now: float) -> None:
        """Remember that a replica serves an adapter."""
        self._served.setdefault(lora, {})[workload_id] = now

    def of(self, lora: str, now: float) -> set[str]:
        """Return the replicas that are believed to hold an adapter."""
        since = now - LORA_STANDS_S
        return {one for one, at in self._served.get(lora, {}).items() if at > since}

    def keep(self, loras: Iterable[str], present: set[str]) -> None:
        """Forget adapters the endpoint no longer has, and replicas that are gone."""
        known = set(loras)
        self._served = {
            lora: {one: at for one, at in served.items() if one in present}
            for lora, served in self._served.items()
            if lora in known
        }


def cache_salt(route: Route, secret: bytes, own: str | None = None) -> str | None:
    """Return the ``cache_salt`` a vLLM engine is to be sent, or nothing where caches are shared.

    Without it the time to a first token would tell one project what another has asked. ``own`` is the
    client's, which divides its project further; whatever it is, it never leaves the project.
    """
    if route.engine != "vllm" or route.routing.cache_shared:
        return own if route.engine == "vllm" else None
    said = f"{route.project}\x1f{own or ''}".encode(errors="replace")
    return hmac.digest(secret, said, "sha256").hex()[:32]
