"""What comes in, looked at: is it a fact, is it where it belongs, do we know its type, whose trace is it."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from enum import Enum
from typing import Annotated, Final, Protocol, Union

import msgspec
from mesh_contracts.fact import Fact, subject_for, subject_of, tag_of
from mesh_contracts.units import FactId, Sequence, Site, dec_hook
from opentelemetry.trace import Span, SpanKind

from meshkit import semconv
from meshkit.consumer import Pulled, header_in
from meshkit.publishing import SAMPLED
from meshkit.telemetry import span

DELIVER_MAX: Final = 5
"""Tries of one fact before it is given up on."""
RETRY_WAITS_S: Final = (0.1, 0.5, 2.0, 5.0)
"""Waits between the tries: one less than ``DELIVER_MAX``."""

COPIED_STREAM: Final = b"\r\nNats-Stream:"
COPIED_SUBJECT: Final = b"\r\nNats-Subject:"
"""Headers of republished and direct-get messages: on a fact they are a forgery."""


UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading bytes raises where they are no fact: nested too deeply among them."""


class Source(Protocol):
    """Where deliveries are settled: a pull consumer."""

    def ack(self, message: Pulled) -> None:
        """Never deliver it again."""

    def nak(self, message: Pulled, delay_s: float = 0.0) -> None:
        """Deliver it again."""

    def working(self, message: Pulled) -> None:
        """Do not deliver it again yet."""


class Fate(Enum):
    """What becomes of a message, as its bytes show."""

    HANDLE = "handle"
    PARK = "park"
    BURY = "bury"
    DROP = "drop"


class Envelope(msgspec.Struct, frozen=True):
    """What any fact carries, whatever its type: enough to keep one that is not known here yet.

    As strict as a fact's own: what breaks a database must not come in this way.
    """

    tag: Annotated[str, msgspec.Meta(pattern=r"^[a-z.-]{1,100}/[0-9]{1,9}$")]
    fact_id: FactId
    key: str
    site: Site
    version: Sequence = 0


class Heard:
    """One delivery, looked at: its fact where it holds one, else why not.

    ``place`` counts the consumer's deliveries, ``sequence`` the stream's messages.
    """

    __slots__ = (
        *("begun", "delivered", "done", "fact", "fact_id", "fate", "key", "message", "place", "reason"),
        *("sequence", "tag", "tries", "version"),
    )

    def __init__(self, message: Pulled, fate: Fate, fact: Fact | None = None, reason: str = "") -> None:
        # $JS.ACK.…<stream>.<consumer>.<delivered>.<stream's>.<consumer's>.<time>.<pending>; from the
        # right, since a newer server may put a domain and an account in front.
        tokens = message.ack_to.rsplit(b".", 5)
        self.delivered, self.sequence, self.place = int(tokens[1]), int(tokens[2]), int(tokens[3])
        self.message = message
        self.fate = fate
        self.fact = fact
        self.reason = reason
        self.tries = 0
        self.begun = False
        self.done = False
        if fact is None:
            self.tag, self.key, self.version = "", "", 0
            self.fact_id = f"sequence_{self.sequence}"
        else:
            self.tag, self.key, self.version = type(fact).__name__, fact.key, fact.version
            self.fact_id = fact.fact_id


_envelope = msgspec.json.Decoder(Envelope).decode


class Ears:
    """Looks at deliveries: decodes the kinds it knows, and says what is wrong with the rest."""

    def __init__(self, kinds: Iterable[type[Fact]]) -> None:
        known = tuple(kinds)
        assert known, "a reader reads at least one kind of fact"
        self._tags = {tag_of(kind) for kind in known}
        self._decode = msgspec.json.Decoder(Union[known], dec_hook=dec_hook).decode  # noqa: UP007

    def look(self, message: Pulled) -> Heard:
        """Return what a delivery holds, and what is to become of it. Never raises for its content."""
        headers = message.raw_headers
        if headers is not None and (COPIED_STREAM in headers or COPIED_SUBJECT in headers):
            return Heard(message, Fate.DROP, reason="carries headers of a copy")
        try:
            fact: Fact = self._decode(message.data)
        except UNREADABLE as fault:
            return self._unreadable(message, fault)
        if subject_of(fact) != message.subject:
            return Heard(message, Fate.DROP, reason="stands on a subject that is not its own")
        return Heard(message, Fate.HANDLE, fact)

    def fact_in(self, raw: bytes) -> Fact | None:
        """Return the fact in these bytes, or nothing where they hold none that is known here."""
        try:
            fact: Fact = self._decode(raw)
        except UNREADABLE:
            return None
        return fact

    def _unreadable(self, message: Pulled, fault: Exception) -> Heard:
        try:
            envelope = _envelope(message.data)
        except UNREADABLE:
            envelope = None
        known = envelope is None or envelope.tag in self._tags
        if known or envelope is None:
            heard = Heard(message, Fate.BURY, reason=f"cannot be decoded: {fault}"[:500])
        elif subject_for(envelope.tag, envelope.site, envelope.key) != message.subject:
            return Heard(message, Fate.DROP, reason="stands on a subject that is not its own")
        else:
            heard = Heard(message, Fate.PARK, reason=f"the type {envelope.tag} is not known here yet")
            heard.fact_id, heard.version = envelope.fact_id, envelope.version
        heard.tag = "" if envelope is None else envelope.tag
        # The subject's last token: what else an undecodable payload claims is not to be trusted.
        heard.key = message.subject.rpartition(".")[2]
        return heard


def traced(heard: Heard, consumer: str) -> AbstractContextManager[Span] | None:
    """Return the span of handling a fact, or nothing where its trace is not kept."""
    parent = parent_of(heard)
    if parent is None:
        return None
    tag = "" if heard.fact is None else tag_of(type(heard.fact))
    return span(
        f"process {tag}",
        kind=SpanKind.CONSUMER,
        parent=parent,
        attributes={
            semconv.MESSAGING_SYSTEM: semconv.MESSAGING_SYSTEM_NATS,
            semconv.MESSAGING_OPERATION_NAME: "process",
            semconv.MESSAGING_OPERATION_TYPE: "process",
            semconv.MESSAGING_DESTINATION_NAME: consumer.split("_")[1],
            semconv.MESSAGING_CONSUMER_GROUP_NAME: consumer,
            semconv.MESH_FACT_ID: heard.fact_id,
            semconv.MESH_DELIVERY_COUNT: heard.delivered,
        },
    )


def parent_of(heard: Heard) -> str | None:
    """Return the sampled traceparent a delivery came with, or nothing: parsing is for those that count."""
    parent = header_in(heard.message.raw_headers, b"traceparent")
    if parent is None and heard.fact is not None:
        parent = heard.fact.traceparent
    return parent if parent is not None and parent[-1:] in SAMPLED else None
