"""What is left of a scope's limits, as clients of OpenAI read it in headers: also where nothing is."""

from collections.abc import Iterable, Sequence

from inference_gateway.domain.admission.gcra import MINUTE_NS, Bucket
from inference_gateway.domain.admission.scope import Scope, Taken

Headers = list[tuple[bytes, bytes]]
REQUESTS = (
    b"x-ratelimit-limit-requests",
    b"x-ratelimit-remaining-requests",
    b"x-ratelimit-reset-requests",
)
TOKENS = (b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens")


def said_left(scopes: Sequence[Scope], now: float) -> Headers:
    """Return what is left now, as ``said_after`` does."""
    now_ns = int(now * 1e9)

    def raw(bucket: Bucket | None) -> int | None:
        return None if bucket is None else bucket.raw_at(now_ns)

    return said_after(
        [(one, None, None, raw(one.requests), raw(one.tokens), None, None) for one in scopes]
    )


def said_after(entries: Iterable[Taken]) -> Headers:
    """Return what was left when these were taken, at the scope where the least was; nothing for what is unlimited.

    The limit is the scope's, what is left and its reset are this gateway's share of it.
    """
    requests = tokens = None
    requests_raw = tokens_raw = 0
    for scope, _, _, of_requests, of_tokens, _, _ in entries:
        if of_requests is not None and (requests is None or of_requests < requests_raw):
            requests, requests_raw = scope, of_requests
        if of_tokens is not None and (tokens is None or of_tokens < tokens_raw):
            tokens, tokens_raw = scope, of_tokens
    said: Headers = []
    if requests is not None and requests.requests is not None:
        limit = requests.ceiling.requests_per_minute
        said += _said(REQUESTS, limit, requests.requests.share, requests_raw)
    if tokens is not None and tokens.tokens is not None:
        limit = tokens.ceiling.tokens_per_minute
        said += _said(TOKENS, limit, tokens.tokens.share, tokens_raw)
    return said


def _said(names: tuple[bytes, bytes, bytes], limit: int | None, share: int, raw: int) -> Headers:
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
