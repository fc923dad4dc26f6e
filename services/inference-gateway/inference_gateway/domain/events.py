"""Facts as partners see them: CloudEvents 1.0 outside, and whose they are."""

from typing import Any

import msgspec
from mesh_contracts.ask import Principal

from inference_gateway.domain.cursors import START, Place, mark_of

ENVELOPE = (
    "tag",
    "fact_id",
    "key",
    "version",
    "site",
    "organization",
    "project",
    "occurred_at",
    "recorded_at",
    "cause_id",
    "actor",
    "traceparent",
)
EXTENSIONS = ("site", "organization", "project", "traceparent")
"""Parts of a fact's envelope that become attributes of the same name."""

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Event(msgspec.Struct, frozen=True):
    """One event: its place in the stream, whose it is, and the CloudEvent as it is sent."""

    sequence: int
    mark: bytes
    type: str
    project: str | None
    data: bytes

    @property
    def place(self) -> Place:
        """The place after this event."""
        return Place(self.sequence, self.mark)


class _Envelope(msgspec.Struct, frozen=True):
    tag: str
    fact_id: str
    key: str
    site: str
    occurred_at: str
    version: int = 0
    project: str | None = None


_envelopes = msgspec.json.Decoder(_Envelope)


def event_of(sequence: int, raw: bytes) -> Event | None:
    """Return a stored fact as an event; nothing where it is not a fact at all."""
    try:
        envelope = _envelopes.decode(raw)
        fields = _fields.decode(raw)
    except msgspec.DecodeError:
        return None
    said: dict[str, Any] = {
        "specversion": "1.0",
        "id": envelope.fact_id,
        "source": f"/sites/{envelope.site}/{envelope.tag.partition('.')[0]}",
        "type": envelope.tag,
        "subject": envelope.key,
        "time": envelope.occurred_at,
        "datacontenttype": "application/json",
        "sequence": str(envelope.version),
    }
    said |= {name: fields[name] for name in EXTENSIONS if name in fields}
    said["data"] = {name: value for name, value in fields.items() if name not in ENVELOPE}
    return Event(
        sequence,
        mark_of(envelope.fact_id),
        envelope.tag,
        envelope.project,
        msgspec.json.encode(said),
    )


class Wish(msgspec.Struct, frozen=True):
    """Which events a reader wants: of a project, of these types (``*`` at the end is any rest)."""

    principal: Principal
    project: str | None = None
    types: tuple[str, ...] = ()

    def takes(self, event: Event) -> bool:
        """Tell whether an event is this reader's to see, and wanted."""
        if not self.principal.sees(event.project):
            return False
        if self.project is not None and event.project != self.project:
            return False
        return not self.types or any(_matches(event.type, wanted) for wanted in self.types)


def _matches(kind: str, wanted: str) -> bool:
    if wanted.endswith("*"):
        return kind.startswith(wanted[:-1])
    return wanted in {kind, kind.partition("/")[0]}


def goes_on(place: Place, found: Event | None) -> bool:
    """Tell whether nothing is missing between a place and the first event at or after its number.

    The event itself must still be there, the same as was read; or the very next one, where the
    stream has just forgotten it.
    """
    if found is None:
        return place.sequence == 0
    if found.sequence == place.sequence:
        return place.mark in {START, found.mark}
    return found.sequence == place.sequence + 1
