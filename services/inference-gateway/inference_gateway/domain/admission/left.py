"""What is left of a scope's limits, as clients of OpenAI read it in headers: also where nothing is."""

from collections.abc import Iterable

from inference_gateway.domain.admission.gcra import Bucket
from inference_gateway.domain.admission.scope import Scope

Headers = list[tuple[bytes, bytes]]
Tightest = tuple[int, int, Bucket]
"""What is left, of which limit, in which bucket."""

REQUESTS = (
    b"x-ratelimit-limit-requests",
    b"x-ratelimit-remaining-requests",
    b"x-ratelimit-reset-requests",
)
TOKENS = (b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens")


def said_left(scopes: Iterable[Scope], now: float) -> Headers:
    """Return what is left now, at the scope where the least is; nothing for what is unlimited.

    The limit is the scope's, what is left and its reset are this gateway's share of it.
    """
    now_ns = int(now * 1e9)
    requests: Tightest | None = None
    tokens: Tightest | None = None
    for scope in scopes:
        bucket, limit = scope.requests, scope.ceiling.requests_per_minute
        if bucket is not None and limit is not None:
            left = bucket.left(now_ns)
            if requests is None or left < requests[0]:
                requests = (left, limit, bucket)
        bucket, limit = scope.tokens, scope.ceiling.tokens_per_minute
        if bucket is not None and limit is not None:
            left = bucket.left(now_ns)
            if tokens is None or left < tokens[0]:
                tokens = (left, limit, bucket)
    return [*_headers(REQUESTS, requests, now_ns), *_headers(TOKENS, tokens, now_ns)]


def _headers(names: tuple[bytes, bytes, bytes], tightest: Tightest | None, now_ns: int) -> Headers:
    if tightest is None:
        return []
    left, limit, bucket = tightest
    said = (b"%d" % limit, b"%d" % left, _duration(bucket.full_ns(now_ns)))
    return list(zip(names, said, strict=True))


def _duration(ns: int) -> bytes:
    """Return a time as OpenAI writes it: 0s, 250ms, 12s, 1m0s; the larger ones rounded up."""
    ms = -(-ns // 1_000_000)
    if 0 < ms < 1_000:
        return b"%dms" % ms
    minutes, seconds = divmod(-(-ms // 1_000), 60)
    return b"%dm%ds" % (minutes, seconds) if minutes else b"%ds" % seconds
