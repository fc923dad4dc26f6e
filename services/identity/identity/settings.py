"""What identity is told, beside what every service with a database is."""

from pathlib import Path

from meshkit.config import StoreSettings
from meshkit.usertoken import LIFE_S


class IdentitySettings(StoreSettings, frozen=True, kw_only=True):
    """``identity_bootstrap_file`` is applied at each start (see ``identity.bootstrap``).

    ``identity_callout_seed_file`` holds the seed that signs bus users, where the bootstrap file does
    not name it; without either, nodes cannot connect. ``identity_node_life_s`` is how long a node's
    right to be connected lasts, in seconds.
    """

    identity_bootstrap_file: Path | None = None
    identity_callout_seed_file: Path | None = None
    identity_node_life_s: int = LIFE_S
