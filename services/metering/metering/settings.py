"""What metering is told: what every service with a database is."""

from meshkit.config import StoreSettings


class MeteringSettings(StoreSettings, frozen=True, kw_only=True):
    """Nothing of its own yet."""
