"""The words of a refusal: which scope, which limit, what is left of it, when to come back or what to change."""

from typing import Any

from mesh_contracts.metering import Ceiling

from inference_gateway.domain.faults import Fault

SOON_MS = 50
"""When to come back where the next lease is asked for at once."""

BEAT_MS = 1_000
"""When to come back where the next lease is not expected sooner, or another request has to end."""

RATE = "rate_limit_error"
QUOTA = "insufficient_quota"


def too_many_requests(ceiling: Ceiling, share: int, wait_ns: int | None) -> Fault:
    """Return the refusal of one request too many in a minute."""
    wait_ms = BEAT_MS if wait_ns is None else _ms(wait_ns)
    limit = ceiling.requests_per_minute
    return Fault(
        status=429,
        code="rate_limit_exceeded",
        type=RATE,
        message=f"{_who(ceiling)} may make {limit} requests a minute, of which {share} here, and none is left. "
        f"Come back in {wait_ms} ms.",
        retry_after_ms=wait_ms,
        reasons=_reasons(ceiling, "requests_per_minute", limit, 0, 1),
    )


def too_many_tokens(ceiling: Ceiling, share: int, left: int, tokens: int, wait_ns: int | None) -> Fault:
    """Return the refusal of tokens that do not fit now; ``wait_ns`` is absent where the share must grow first."""
    wait_ms = BEAT_MS if wait_ns is None else _ms(wait_ns)
    limit = ceiling.tokens_per_minute
    return Fault(
        status=429,
        code="rate_limit_exceeded",
        type=RATE,
        message=f"{_who(ceiling)} may use {limit} tokens a minute, of which {share} here; {left} are left, and this "
        f"request may take up to {tokens}. Come back in {wait_ms} ms, or lower max_tokens.",
        retry_after_ms=wait_ms,
        reasons=_reasons(ceiling, "tokens_per_minute", limit, left, tokens),
    )


def never_fits(ceiling: Ceiling, prompt: int, answer: int) -> Fault:
    """Return the refusal of a request that takes more tokens than a minute has."""
    limit = ceiling.tokens_per_minute
    return Fault(
        status=429,
        code="tokens_exceed_limit",
        type=RATE,
        message=f"This request may take up to {prompt + answer} tokens ({prompt} of prompt, {answer} of answer), and "
        f"{_who(ceiling, 'the')} may use {limit} a minute. Lower max_tokens or shorten the prompt, "
        "or have the limit raised.",
        should_retry=False,
        reasons=_reasons(ceiling, "tokens_per_minute", limit, None, prompt + answer),
    )


def too_many_at_once(ceiling: Ceiling, share: int) -> Fault:
    """Return the refusal of one request too many at once."""
    limit = ceiling.parallel_requests
    return Fault(
        status=429,
        code="rate_limit_exceeded",
        type=RATE,
        message=f"{_who(ceiling)} may have {limit} requests in progress at once, of which {share} here, and they are. "
        "Come back when one has ended.",
        retry_after_ms=BEAT_MS,
        reasons=_reasons(ceiling, "parallel_requests", limit, 0, 1),
    )


def budget_spent(ceiling: Ceiling) -> Fault:
    """Return the refusal where nothing is left of a hard budget."""
    return Fault(
        status=429,
        code=QUOTA,
        type=QUOTA,
        message=f"{_who(ceiling)} has spent its budget of {ceiling.budget_microeur} micro-euros{_per(ceiling)}. "
        f"Have it raised{_or_wait(ceiling)}.",
        should_retry=False,
        reasons=_reasons(ceiling, "budget", ceiling.budget_microeur, 0, None),
    )


def budget_never_fits(ceiling: Ceiling, cost: int) -> Fault:
    """Return the refusal of a request that may cost more than the whole budget."""
    return Fault(
        status=429,
        code=QUOTA,
        type=QUOTA,
        message=f"This request may cost up to {cost} micro-euros, and {_who(ceiling, 'the')} has a budget of "
        f"{ceiling.budget_microeur}{_per(ceiling)}. Lower max_tokens, or have the budget raised.",
        should_retry=False,
        reasons=_reasons(ceiling, "budget", ceiling.budget_microeur, None, cost),
    )


def budget_short(ceiling: Ceiling, at_hand: int, cost: int, wait_ms: int) -> Fault:
    """Return the refusal where more of the budget may come to this gateway than it holds."""
    return Fault(
        status=429,
        code="budget_short",
        type=RATE,
        message=f"This request may cost up to {cost} micro-euros, and of the budget of {_who(ceiling, 'the')} "
        f"{max(at_hand, 0)} are free here; more is asked for. Come back in {wait_ms} ms, or lower max_tokens.",
        retry_after_ms=wait_ms,
        reasons=_reasons(ceiling, "budget", ceiling.budget_microeur, max(at_hand, 0), cost),
    )


def budget_rest(ceiling: Ceiling, at_hand: int, cost: int) -> Fault:
    """Return the refusal where all that is left of a hard budget is here, and less than a request may cost."""
    return Fault(
        status=429,
        code=QUOTA,
        type=QUOTA,
        message=f"This request may cost up to {cost} micro-euros, and {max(at_hand, 0)} are all that is left of the "
        f"budget of {_who(ceiling, 'the')}{_per(ceiling)}. Lower max_tokens, or have the budget raised.",
        should_retry=False,
        reasons=_reasons(ceiling, "budget", ceiling.budget_microeur, max(at_hand, 0), cost),
    )


def budget_unconfirmed(ceiling: Ceiling, why: str, wait_ms: int) -> Fault:
    """Return the refusal where this gateway may spend nothing of a hard budget until metering answers."""
    return Fault(
        status=503,
        code="budget_unconfirmed",
        type="unavailable_error",
        message=f"{_who(ceiling)} has a hard budget, and what is left of it is not confirmed here: {why}. "
        f"Come back in {wait_ms} ms.",
        retry_after_ms=wait_ms,
        reasons=_reasons(ceiling, "budget", ceiling.budget_microeur, None, None),
    )


def _who(ceiling: Ceiling, article: str = "The") -> str:
    return f"{article} {ceiling.scope_kind} {ceiling.scope_id}"


def _per(ceiling: Ceiling) -> str:
    return "" if ceiling.period == "total" else f" for this {ceiling.period}"


def _or_wait(ceiling: Ceiling) -> str:
    return "" if ceiling.period == "total" else f", or wait for the next {ceiling.period} (UTC)"


def _ms(wait_ns: int) -> int:
    return max(-(-wait_ns // 1_000_000), 1)


def _reasons(
    ceiling: Ceiling, limit: str, amount: int | None, left: int | None, wanted: int | None
) -> list[Any]:
    """Return the same for programs."""
    said = {"code": limit, "scope_kind": ceiling.scope_kind, "scope_id": ceiling.scope_id}
    numbers = {"limit": amount, "left": left, "wanted": wanted}
    return [{**said, **{name: int(n) for name, n in numbers.items() if n is not None}}]
