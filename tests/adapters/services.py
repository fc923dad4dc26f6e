"""What the tests of one service share: a closed bus, and settings for anybody on it."""

from pathlib import Path
from typing import Any

from mesh_contracts.ask import Principal
from mesh_contracts.units import DEFAULT_SITE
from meshkit.bus import Bus
from meshkit.clock import SystemClock
from meshkit.config import Secret, Settings, read_secret
from meshkit.testing import NOW

from tests.closed_bus import ClosedBus

FAR = NOW.replace(year=2100)
ADMIN = Principal(principal_id="key_admin", role="admin", expires_at=FAR)


def told(bus: ClosedBus, folder: Path, user: str, **fields: Any) -> dict[str, Any]:
    """Return what a service of ``user`` is told: where the bus is, who it is there, the mesh's secret."""
    credentials, secret = folder / f"{user}.nk", folder / "mesh.secret"
    credentials.write_text(bus.seeds[user] if user in bus.seeds else fields.pop("seed"))
    secret.write_text("a secret of these tests")
    return {
        "nats_url": bus.server.url,
        "nats_credentials": credentials,
        "mesh_secret_file": secret,
        "mesh_site": DEFAULT_SITE,
        **fields,
    }


async def connected(
    bus: ClosedBus, folder: Path, user: str, *, token: str | None = None, **fields: Any
) -> Bus:
    """Return ``user``'s connection to the closed bus."""
    inbox = fields.pop("inbox", None)
    settings = Settings(**told(bus, folder, user, **fields))
    return await Bus.connect(
        settings,
        user=user,
        clock=SystemClock(),
        secret=Secret(read_secret(settings.mesh_secret_file).reveal()),
        inbox_prefix=inbox,
        token=token,
    )
