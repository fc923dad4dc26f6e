"""On which terms something is placed: how near, with whom, for what; and what might change of a site."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mesh_contracts.units import Count, Name, Text

Domain = Literal["node", "nvlink", "rack", "leaf", "rail", "pdu", "row", "hall", "site"]
"""Parts of a site, the smallest first."""
PowerDomain = Literal["rack", "pdu", "row", "hall", "site"]
"""Parts of a site that may have a power cap; each stands in the next."""
Isolation = Literal["none", "node", "nvlink", "rack"]
"""The part of a site that nobody else may share."""

MEMBERS_MAX = 4_096
PRIORITY_MAX = 1_000
ADDED_MAX = 2_000
CHANGES_MAX = 16

Members = Annotated[int, Meta(ge=1, le=MEMBERS_MAX)]
Priority = Annotated[int, Meta(ge=0, le=PRIORITY_MAX)]
"""What is worth more comes first, and may take the place of what is preemptible and worth less."""
Names = Annotated[list[Name], Meta(max_length=32)]


class Near(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How near to each other members must (or, not ``required``, should) be.

    All stand in one part of the site of this ``level``; of each ``segment`` members in a row, all
    stand in one NVLink domain (1: none must).
    """

    level: Domain | None = None
    required: bool = True
    segment: Annotated[int, Meta(ge=1, le=MEMBERS_MAX)] = 1


class LoseDomain(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="change",
    tag="lose",
    forbid_unknown_fields=True,
):
    """A part of the site is gone, with all that runs there: a node by its name or id, else a domain."""

    level: Domain
    domain: Text


class CapDomain(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="change",
    tag="cap",
    forbid_unknown_fields=True,
):
    """A part of the site may draw so many watts (null: as many as it likes)."""

    level: PowerDomain
    domain: Text
    watts: Count | None


class AddNodes(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="change",
    tag="add",
    forbid_unknown_fields=True,
):
    """So many nodes more like one that there is, in new racks, NVLink domains and so on, as full as its own."""

    nodes: Annotated[int, Meta(ge=1, le=ADDED_MAX)]
    like: Text


Change = LoseDomain | CapDomain | AddNodes
"""What might happen to a site."""
Changes = Annotated[list[Change], Meta(max_length=CHANGES_MAX)]
