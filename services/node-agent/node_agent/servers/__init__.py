"""The server itself, as a lease has it: handed over, taken back, erased, shown to be as it should."""

from typing import Literal, NamedTuple, Protocol

import msgspec
from mesh_contracts.node import Check, Verdict


class ServerFault(Exception):
    """The server did not do what a lease needs of it; the message says what, and what to do."""


class Reached(NamedTuple):
    """Where a tenant reaches its server (``host:port``), and the server's console, a URL, if it has one."""

    address: str
    console: str | None = None


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What shows that a step was done: how (``method``), and what was seen (``seen``)."""

    verdict: Verdict
    method: str
    seen: dict[str, int | float | str | list[int]] = {}


class Server(Protocol):
    """What the agent needs of the server that it leases out; each call may take minutes.

    Each raises ``ServerFault``, and does no harm where it was done before: a start of the agent begins the
    step anew that it was in.
    """

    quality: Literal["measured", "rehearsed"]

    async def hand_over(self) -> Reached:
        """Power the server, boot what the tenant is to have, and return where it is reached."""
        ...

    async def take_back(self) -> None:
        """Have the tenant's work end: power off, and its credentials with it."""
        ...

    async def erase(self) -> Evidence:
        """Erase what the tenant left on disks and in memories."""
        ...

    async def attest(self, checks: list[Check]) -> Evidence:
        """Show that firmware and devices are as they should be; ``checks`` are those of the accelerators."""
        ...


class Unmanaged:
    """A server that its agent has no hold of: it is not leased out."""

    quality: Literal["measured", "rehearsed"] = "measured"

    async def hand_over(self) -> Reached:
        """Refuse."""
        raise ServerFault(
            "this agent has no hold of its server's power and disks: lease servers whose agents have"
        )

    async def take_back(self) -> None:
        """Do nothing: nobody was given it."""

    async def erase(self) -> Evidence:
        """Show nothing: it may hold a tenant's data."""
        return Evidence(verdict="inconclusive", method="no hold of the server's disks")

    async def attest(self, checks: list[Check]) -> Evidence:
        """Show nothing."""
        del checks
        return Evidence(verdict="inconclusive", method="no hold of the server's firmware")
