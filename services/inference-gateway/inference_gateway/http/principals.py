"""From an access entry to who asks."""

from datetime import datetime, timedelta

from mesh_contracts.ask import Principal
from mesh_contracts.identity import AccessEntry

PRINCIPAL_LIFETIME = timedelta(seconds=30)
"""How long a sealed principal is believed: longer than any ask's deadline."""


def principal_of(entry: AccessEntry, now: datetime) -> Principal:
    """Return the principal that a key's entry stands for."""
    return Principal(
        principal_id=entry.key_id,
        role=entry.role,
        organization=entry.organization,
        project=entry.project,
        expires_at=now + PRINCIPAL_LIFETIME,
    )
