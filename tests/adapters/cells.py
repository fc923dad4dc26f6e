"""The cells of the fault matrix: an engine's fault, plain or streamed, a client; and what must hold of each.

Each cell has an engine and a model name of its own, so that its row is known by the model even where
the client was gone before it was told a request id.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product

from mesh_contracts.inference import UsageRow
from mesh_contracts.placement import EngineKind
from meshkit.testing import test_id

from tests.adapters.clients import LEAVES, SLOW, STAYS, Client, Saw
from tests.adapters.faults import ANSWERS_WHOLE, FAULTS, REFUSES, WORDS, first_met
from tests.adapters.faulty_engine import Counted, FaultyEngine
from tests.adapters.gateways import Town

ENGINES: Sequence[EngineKind] = ("llama", "vllm", "external")
RETRIED_BY_CLIENTS = {408, 409, 429, 500, 502, 503, 504}
CLOSED_WITHIN_S = 5.0
"""Generous on purpose: the figure is printed, and a busy machine may be late with it."""
PROMPT = "one two three four"


@dataclass
class Cell:
    """One combination, and what came of it."""

    fault: str
    stream: bool
    client: str = STAYS
    kind: EngineKind = "llama"
    second: bool = False
    """Whether there are two replicas, and the one that is not asked first is healthy."""
    held: str | None = None
    """A stage at which the engine waits until its connection is closed."""
    saw: Saw = field(default_factory=Saw)
    rows: list[UsageRow] = field(default_factory=list)
    engines: list[FaultyEngine] = field(default_factory=list)

    @property
    def name(self) -> str:
        shape = "streamed" if self.stream else "plain"
        beside = "-second" if self.second else ""
        client = f"held-{self.held}" if self.held else self.client
        return f"{self.fault}-{shape}-{client}-{self.kind}{beside}".replace("_", "-").lower()

    async def open(self, town: Town) -> None:
        """Start the engines and put the route; the door learns it in its own time."""
        behaviour = FAULTS[self.fault]
        if self.second and self.fault != REFUSES:
            behaviour = first_met(behaviour)
        faulty = FaultyEngine([behaviour], name=self.name, refuses=self.fault == REFUSES)
        waits = {"before_the_first_byte": "head", "midway": "middle"}
        faulty.held_at = self.held or waits.get(self.client)
        self.engines = [faulty]
        if self.second:
            self.engines.append(FaultyEngine([behaviour], name=f"{self.name}-beside"))
        for engine in self.engines:
            await engine.start()
        replicas = [engine.replica() for engine in self.engines]
        await town.put_route(*replicas, name=self.name, engine=self.kind)

    def known(self, town: Town) -> bool:
        route = town.door.directory.find(test_id("project", "rail"), self.name)
        return route is not None

    async def ask(self, port: int, key: str) -> None:
        client = Client(port, key, self.client, self.engines[0])
        body = {
            "model": self.name,
            "stream": self.stream,
            "messages": [{"role": "user", "content": PROMPT}],
        }
        if self.stream:
            body["stream_options"] = {"include_usage": True}
        self.saw = client.saw
        with suppress(TimeoutError):
            await client.ask(body)

    async def close(self) -> None:
        for engine in self.engines:
            await engine.stop()

    @property
    def asked(self) -> list[Counted]:
        """What the engines counted, of all attempts."""
        return [seen for engine in self.engines for seen in engine.seen]

    @property
    def left(self) -> bool:
        return self.saw.left_at is not None

    @property
    def closed_ms(self) -> float | None:
        """How long after the client had left an engine saw its connection closed."""
        moments = [seen.closed_at for seen in self.asked if seen.closed_at is not None]
        if not moments or self.saw.left_at is None:
            return None
        return (max(moments) - self.saw.left_at) * 1e3

    def line(self) -> str:
        """Return what came of it in one line."""
        said = "left" if self.left else str(self.saw.status)
        error = (self.saw.error or {}).get("code", "") if not self.left else ""
        rows = "; ".join(
            f"{row.state} {row.status} {row.reason or '-'} {row.tokens_from}={row.completion_tokens}"
            f" attempts={row.attempts}"
            for row in self.rows
        )
        made = "+".join(str(seen.made) for seen in self.asked) or "0"
        closed = "" if self.closed_ms is None else f" closed after {self.closed_ms:.0f} ms"
        return f"{self.name:70} saw {said:>4} {error:26} words={self.saw.words} made={made:5} row: {rows}{closed}"

    def faults(self) -> list[str]:
        """Return everything about it that is not as it must be."""
        return [f"{self.name}: {said}" for said in self._wrong()]

    def _wrong(self) -> Iterable[str]:
        yield from self._wrong_rows()
        if not self.left:
            yield from self._wrong_answer()
        elif any(seen.closed_at is None for seen in self.asked if seen.reported is None):
            yield "the client left and its engine was never let go"
        elif self.closed_ms is not None and self.closed_ms > CLOSED_WITHIN_S * 1e3:
            yield f"the engine was let go after {self.closed_ms:.0f} ms"

    def _wrong_rows(self) -> Iterable[str]:
        never = self.client == "before_the_body"
        # A client that left with the last byte of its body may have been heard, or not.
        unsure = self.client == "after_the_body" and not self.asked
        if never and (self.rows or self.asked):
            yield f"a request that was never sent whole has {len(self.rows)} rows"
        if len(self.rows) > 1 or (not self.rows and not never and not unsure):
            yield f"{len(self.rows)} rows instead of one"
        for row in self.rows[:1]:
            yield from self._wrong_row(row)

    def _wrong_row(self, row: UsageRow) -> Iterable[str]:
        yield from self._wrong_count(row)
        if self.saw.request_id not in {"", row.request_id}:
            yield f"the row is of {row.request_id}, the client saw {self.saw.request_id}"
        if self.second and self.fault != REFUSES and row.attempts < 2:
            yield "one attempt recorded though the first replica was at fault"
        if len(self.asked) > row.attempts or row.attempts < 1:
            yield f"{row.attempts} attempts recorded, the engines saw {len(self.asked)}"
        if self.left and row.state == "failed":
            yield "the client left and the row blames the engine"
        if self.saw.status and not self.left and row.status != self.saw.status:
            yield f"the client saw {self.saw.status}, the row says {row.status}"

    def _wrong_count(self, row: UsageRow) -> Iterable[str]:
        told = [seen.reported for seen in self.asked if seen.reported is not None]
        if row.tokens_from == "engine":
            if (row.prompt_tokens, row.completion_tokens) not in told:
                yield f"the row says {row.prompt_tokens}+{row.completion_tokens}, the engine {told}"
            return
        made = max((seen.made for seen in self.asked), default=0)
        # Without usage in a plain answer nobody counts for the gateway: unknown is the truth then.
        unknown = self.fault == "no_usage" and not self.stream and row.tokens_from == "none"
        if not unknown and not self.saw.words <= (row.completion_tokens or 0) <= made:
            yield f"{row.completion_tokens} counted; {self.saw.words} arrived, {made} were made"
        if told and self.fault != "absurd_usage" and self.saw.whole and self.saw.status == 200:
            yield f"the engine reported {told} and the row counts for itself"
        if row.tokens_from == "none" and (row.completion_tokens, row.prompt_tokens) != (None, None):
            yield "nothing is known and yet there is a count"

    def _wrong_answer(self) -> Iterable[str]:
        saw = self.saw
        if not saw.status:
            yield "the client saw no answer at all"
            return
        if not saw.request_id.startswith("request_"):
            yield "no x-request-id"
        if not saw.whole:
            yield "the answer did not end as HTTP had announced it"
        whole = self.fault in ANSWERS_WHOLE or self.second
        if saw.status == 200:
            yield from self._wrong_success(whole=whole)
            return
        if whole and self.fault != "absurd_usage":
            yield f"{saw.status} though it could have been answered"
        yield from self._wrong_refusal()

    def _wrong_success(self, *, whole: bool) -> Iterable[str]:
        saw = self.saw
        error = saw.error
        clean = (saw.events[-1:] == ["[DONE]"]) if self.stream else saw.body.endswith(b"}")
        if self.stream and not clean and not error:
            yield "the stream ended with neither an error nor [DONE]"
        if error and "[DONE]" in saw.events:
            yield "an error and [DONE] in one stream"
        if clean and not error and saw.words != WORDS:
            yield f"a clean end after {saw.words} of {WORDS} tokens"
        if not whole and clean and not error:
            yield "a clean end though the engine broke off"
        if whole and error and self.fault != "absurd_usage" and not (self.second and saw.words):
            yield f"an error ({error.get('code')}) though the engine answered whole"
        if error:
            yield from _ill_formed(error)
        for row in self.rows[:1]:
            if (row.state == "completed") != (error is None):
                yield f"the client saw {'an error' if error else 'a clean end'}, the row says {row.state}"

    def _wrong_refusal(self) -> Iterable[str]:
        saw = self.saw
        if saw.error is None:
            yield f"{saw.status} without an error envelope: {saw.body[:80]!r}"
            return
        yield from _ill_formed(saw.error)
        retryable = saw.status in RETRIED_BY_CLIENTS and saw.headers.get("x-should-retry") != "false"
        if retryable and "retry-after" not in saw.headers and "retry-after-ms" not in saw.headers:
            yield f"{saw.status} without retry-after"
        if not retryable:
            yield f"{saw.status} tells the client not to try again, though the engine was at fault"
        for row in self.rows[:1]:
            if retryable and row.completion_tokens:
                yield f"the client is told to try again what was charged: {row.completion_tokens}"
            if row.state != "failed":
                yield f"the client was refused and the row says {row.state}"


def _ill_formed(error: dict[str, object]) -> Iterable[str]:
    missing = {"message", "type", "param", "code"} - set(error)
    if missing:
        yield f"the error lacks {sorted(missing)}"
    if not error.get("message") or not error.get("code"):
        yield "the error says nothing"


def quick() -> list[Cell]:
    """Return a subset for the gate: every fault once plain and once streamed, every client once."""
    shapes = (False, True)
    cells = [
        Cell(fault, stream, kind=ENGINES[number % len(ENGINES)])
        for number, (fault, stream) in enumerate(product(FAULTS, shapes))
    ]
    clients = product((*LEAVES, SLOW), shapes)
    return cells + [Cell("none", stream, client) for client, stream in clients]


def every() -> list[Cell]:
    """Return the whole cross product."""
    return [
        Cell(fault, stream, client, kind)
        for fault, stream, client, kind in product(
            FAULTS, (False, True), (STAYS, *LEAVES, SLOW), ENGINES
        )
    ]
