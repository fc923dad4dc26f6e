"""What every fact carries, how its subject is made, and how one fact follows from another."""

from datetime import datetime
from typing import Any, ClassVar
from zlib import crc32

import msgspec

from mesh_contracts.units import (
    FactId,
    OrganizationId,
    ProjectId,
    Sequence,
    Site,
    Text,
    Time,
    TraceParent,
    derived_id,
)

PARTITION_COUNT = 1
"""Partitions of a subject today. Raising it is a deploy step: add consumers, then raise."""


class Fact(msgspec.Struct, frozen=True, kw_only=True, tag_field="tag", omit_defaults=True):
    """Something that happened, told once by its owner and kept.

    ``occurred_at`` is the producer's clock. ``version`` (rising per key: by one from an
    outbox, by more from a journal) and ``recorded_at`` (the store's clock) are filled in when the
    fact is told.
    """

    per_tenant: ClassVar[bool] = False
    """Whether the fact belongs to one tenant, and so stands in the stream ``EVENTS``."""
    ordered: ClassVar[bool] = True
    """Whether a fact that newer ones of its key have passed is out of date. Else it is good at any
    time, and its handlers bear hearing it twice."""

    fact_id: FactId
    key: str
    site: Site
    occurred_at: Time
    version: Sequence = 0
    recorded_at: Time | None = None
    organization: OrganizationId | None = None
    project: ProjectId | None = None
    cause_id: str | None = None
    actor: Text | None = None
    traceparent: TraceParent | None = None


def tag_of(kind: type[msgspec.Struct]) -> str:
    """Return the tag of a message type: ``placement.lease.granted/1``."""
    tag = kind.__struct_config__.tag
    assert isinstance(tag, str), f"{kind.__name__} has no tag"
    return tag


def owner_of(kind: type[msgspec.Struct]) -> str:
    """Return the wire name of the only one who tells (or answers) this type."""
    return tag_of(kind).partition(".")[0]


def stream_of(kind: type[Fact]) -> str:
    """Return the stream that keeps this type of fact."""
    return owner_of(kind).upper()


def partition_of(key: str, count: int = PARTITION_COUNT) -> str:
    """Return the two-digit partition of a key; the same for ever, on every machine."""
    return f"{crc32(key.encode()) % count:02d}"


def subject_for(tag: str, site: str, key: str) -> str:
    """Return ``<owner>.<noun>.<verb>.<site>.<partition>.<key>``."""
    return f"{tag.partition('/')[0]}.{site}.{partition_of(key)}.{key}"


def subject_of(fact: Fact) -> str:
    """Return the only subject on which ``fact`` may stand."""
    return subject_for(tag_of(type(fact)), fact.site, fact.key)


def born_of(
    cause: Any, now: datetime, kind: type[Fact], *, key: str, salt: str = "", **scope: Any
) -> dict[str, Any]:
    """Return the envelope of a fact of ``kind`` that follows from ``cause`` (a fact or an ask).

    The id is derived from the cause, the type, the key and ``salt`` (for several facts of one
    type and key from one cause): deciding the same again tells the same fact, which is then
    heard once. ``scope`` overrides ``site``, ``organization``, ``project`` or ``actor``.
    """
    cause_id: str = getattr(cause, "fact_id", None) or cause.ask_id
    caused_at: datetime = getattr(cause, "occurred_at", None) or cause.asked_at
    return {
        "fact_id": derived_id("fact", caused_at, cause_id, tag_of(kind), key, salt),
        "key": key,
        "site": cause.site,
        "occurred_at": now,
        "organization": getattr(cause, "organization", None),
        "project": getattr(cause, "project", None),
        "cause_id": cause_id,
        "actor": getattr(cause, "actor", None),
        "traceparent": cause.traceparent,
        **scope,
    }
