"""Requests as they arrive, from one seed: in bursts, of very different lengths, with or without shared prompts.

The shape is that of BurstGPT (Wang et al., "BurstGPT: A Real-World Workload Dataset to Optimize LLM Serving
Systems", 2024, arXiv 2401.17644), which models the gaps between requests by a Gamma distribution, shorter
and longer than a Poisson process would have them, and the lengths of prompts by a Zipf distribution. The
parameters here are chosen, not fitted to that trace: it is not part of this repository.
"""

import random
from collections.abc import Callable, Iterator

import msgspec

BURSTINESS = 0.5
"""Shape of the Gamma distribution of the gaps: 1 is a Poisson process, less is burstier."""
ZIPF_EXPONENT = 1.1
PROMPT_STEP, PROMPT_STEPS = 16, 24
"""A question is ``PROMPT_STEP`` times a Zipf rank long: 16 to 384 tokens, mostly short."""
ANSWER_LOG_MEAN, ANSWER_LOG_SPREAD, ANSWER_MAX = 2.3, 0.6, 48
"""An answer's length is lognormal: 10 tokens in the middle, seldom long."""
SYSTEM_PROMPTS, SYSTEM_TOKENS = 32, 1_024
"""More than one engine's cache holds, less than all of them together do."""
TURNS_MAX = 4
NEXT_TURN = 0.5
"""How often a session that may go on does, rather than a new one beginning."""
ALONE_TOKENS = 1_024
"""What a prompt without a shared beginning has besides its question."""


class Message(msgspec.Struct, frozen=True):
    """One message of a chat."""

    role: str
    content: str


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """One request: when it comes, counted from the beginning, and what it asks."""

    at_s: float
    session: int
    messages: list[Message]
    answer_tokens: int


class _Session:
    """One conversation so far."""

    def __init__(self, number: int, system: str) -> None:
        self.number = number
        self.messages = [Message("system", system)]
        self.turns = 0


def gaps(chance: random.Random, rate_per_s: float, burstiness: float = BURSTINESS) -> Iterator[float]:
    """Yield the seconds between requests, for ever; their mean is ``1 / rate_per_s``."""
    while True:
        yield chance.gammavariate(burstiness, 1.0 / (burstiness * rate_per_s))


def shared(chance: random.Random, count: int, rate_per_s: float) -> list[Arrival]:
    """Return ``count`` requests of sessions in turns, each upon one of a few long system prompts."""
    systems = [_words(chance, SYSTEM_TOKENS) for _ in range(SYSTEM_PROMPTS)]
    return _arrivals(
        chance, count, rate_per_s, lambda: chance.choices(systems, _weights(len(systems)))[0]
    )


def alone(chance: random.Random, count: int, rate_per_s: float) -> list[Arrival]:
    """Return ``count`` requests, none of which begins as another does; none goes on."""
    return _arrivals(chance, count, rate_per_s, lambda: _words(chance, ALONE_TOKENS), turns_max=1)


WORKLOADS: dict[str, Callable[[random.Random, int, float], list[Arrival]]] = {
    "shared": shared,
    "alone": alone,
}


def _arrivals(
    chance: random.Random,
    count: int,
    rate_per_s: float,
    system: Callable[[], str],
    *,
    turns_max: int = TURNS_MAX,
) -> list[Arrival]:
    arrivals: list[Arrival] = []
    open_: list[_Session] = []
    at_s, sessions, between = 0.0, 0, gaps(chance, rate_per_s)
    for _ in range(count):
        at_s += next(between)
        if open_ and chance.random() < NEXT_TURN:
            session = open_.pop(chance.randrange(len(open_)))
        else:
            session = _Session(sessions, system())
            sessions += 1
        answer = _answer_tokens(chance)
        session.messages.append(Message("user", _words(chance, _question_tokens(chance))))
        session.turns += 1
        arrivals.append(
            Arrival(
                at_s=at_s,
                session=session.number,
                messages=list(session.messages),
                answer_tokens=answer,
            )
        )
        session.messages.append(Message("assistant", "word " * answer))
        if session.turns < turns_max:
            open_.append(session)
    return arrivals


def _weights(count: int) -> list[float]:
    return [1.0 / rank**ZIPF_EXPONENT for rank in range(1, count + 1)]


def _question_tokens(chance: random.Random) -> int:
    rank = chance.choices(range(1, PROMPT_STEPS + 1), _weights(PROMPT_STEPS))[0]
    return PROMPT_STEP * rank


def _answer_tokens(chance: random.Random) -> int:
    return min(max(round(chance.lognormvariate(ANSWER_LOG_MEAN, ANSWER_LOG_SPREAD)), 1), ANSWER_MAX)


def _words(chance: random.Random, count: int) -> str:
    return " ".join(f"{chance.getrandbits(20):x}" for _ in range(count))
