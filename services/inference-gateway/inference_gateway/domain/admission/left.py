"""What is left of a scope's limits, as clients of OpenAI read it in headers: also where nothing is."""

from collections.abc import Sequence

from inference_gateway.domain.admission.gcra import MINUTE_NS
from inference_gateway.domain.admission.scope import Scope

Headers = list[tuple[bytes, bytes]]
REQUESTS = (
    b"x-ratelimit-limit-requests",
    b"x-ratelimit-remaining-requests",
    b"x-ratelimit-reset-requests",
)
TOKENS = (b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens")


def said_left(scopes: Sequence[Scope], now: float) -> Headers:
    """Return what is left now, at the scope where the least is; nothing for what is unlimited."""
    now_ns = int(now * 1e9)
    requests = [
        (bucket.raw_at(now_ns), scope.ceiling.requests_per_minute, bucket.share)
        for scope in scopes
        if (bucket := scope.requests) is not None
    ]
    tokens = [
        (bucket.raw_at(now_ns), scope.ceiling.tokens_per_minute, bucket.share)
        for scope in scopes
        if (bucket := scope.tokens) is not None
    ]
    said: Headers = []
    for names, known in ((REQUESTS, requests), (TOKENS, tokens)):
        if known:
            raw, limit, share = min(known, key=lambda one: one[0])
            said += said_of(names, limit, share, raw)
    return said


def said_of(names: tuple[bytes, bytes, bytes], limit: int | None, share: int, raw: int) -> Headers:
    """Return one limit's three headers: it, what is left (``raw``, in a bucket's units), and until all of it is."""
    full_ns = -(-(share * MINUTE_NS - raw) // share) if share else 0
    return [
        (names[0], b"%d" % (limit or 0)),
        (names[1], b"%d" % max(raw // MINUTE_NS, 0)),
        (names[2], _duration(max(full_ns, 0))),
    ]


def _duration(ns: int) -> bytes:
    """Return a time as OpenAI writes it: 0s, 250ms, 12s, 1m0s; the larger ones rounded up."""
    ms = -(-ns // 1_000_000)
    if 0 < ms < 1_000:
        return b"%dms" % ms
    minutes, seconds = divmod(-(-ms // 1_000), 60)
    return b"%dm%ds" % (minutes, seconds) if minutes else b"%ds" % seconds
