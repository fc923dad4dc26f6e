"""Who may come in, from memory: the bucket ``access`` as it was last seen, and how old that is."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from mesh_contracts.identity import AccessEntry
from meshkit.clock import Clock

from inference_gateway.domain.faults import Fault, invalid_key, unavailable
from inference_gateway.domain.keys import access_key, bearer, opens, ours
from inference_gateway.settings import ACCESS_AGE_MAX_S

LATELY_MAX = 4_096
"""Headers remembered with where the bucket holds what they open; only such as open something."""


class Held(Protocol):
    """A bucket held in memory, as much of it as the door needs."""

    @property
    def values(self) -> Mapping[str, AccessEntry]:
        """Return what is held."""
        ...

    @property
    def ready(self) -> bool:
        """Whether a whole snapshot has been seen."""
        ...

    def age_s(self) -> float:
        """Return the seconds since the writer last beat."""
        ...


class Access:
    """Answers who a key is. What is known may be old, up to ``ACCESS_AGE_MAX_S``."""

    def __init__(self, held: Held, clock: Clock) -> None:
        self._held = held
        self._clock = clock
        self._since = clock.monotonic()
        self._lately: dict[str, str] = {}

    def now(self) -> datetime:
        """Return the time by which keys are judged."""
        return self._clock.now()

    def age_s(self) -> float:
        """Return how old what is known is; without a beat seen yet, since this gateway started."""
        age = self._held.age_s()
        return age if math.isfinite(age) else self._clock.monotonic() - self._since

    def entry_of(self, authorization: str | None) -> AccessEntry | Fault:
        """Return what the key in an ``Authorization`` header opens, or why it opens nothing."""
        # Most requests come with a header that came before: hashing is a good part of deciding.
        place = None if authorization is None else self._lately.get(authorization)
        entry = self._held.values.get(place) if place is not None else self._looked_up(authorization)
        if isinstance(entry, Fault):
            return entry
        if not self._held.ready:
            return unavailable(
                "access_unknown", "The gateway has just started and knows no keys yet. Try again."
            )
        if self.age_s() > ACCESS_AGE_MAX_S:
            return unavailable(
                "access_too_old",
                f"Keys were last confirmed more than {ACCESS_AGE_MAX_S / 3600:.0f} h ago, so none is believed. "
                "The operator should look after the identity service.",
                retry_after_s=60,
            )
        return opens(entry, self._clock.now)

    def _looked_up(self, authorization: str | None) -> AccessEntry | Fault | None:
        """Return what the key opens, nothing where it opens nothing; remember the header where it does."""
        key = bearer(authorization)
        place = None if key is None else access_key(key)
        entry = None if place is None else self._held.values.get(place)
        if key is None or (entry is None and not ours(key)):
            return invalid_key("There is no API key in the request, or it is not one of ours.")
        if entry is not None and authorization is not None and place is not None:
            if len(self._lately) >= LATELY_MAX:
                self._lately.clear()
            self._lately[authorization] = place
        return entry

    def project_of(self, authorization: str | None) -> AccessEntry | Fault:
        """Return the entry of a project's key: models belong to projects."""
        entry = self.entry_of(authorization)
        if isinstance(entry, Fault) or (entry.project is not None and entry.organization is not None):
            return entry
        return Fault(
            status=403,
            code="no_project",
            type="permission_error",
            message="This key belongs to no project, and models do. Use a project's key.",
        )
