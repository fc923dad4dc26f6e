"""What an agent is told, read once from the environment."""

from pathlib import Path
from typing import Annotated, Literal

from mesh_contracts.units import Name
from meshkit.config import Settings
from msgspec import Meta

NOT_HELD = Path("/dev/null")

Whole = Annotated[int, Meta(ge=0, le=64)]
Seconds = Annotated[float, Meta(gt=0)]


class AgentSettings(Settings, frozen=True, kw_only=True):
    """``agent_data_dir`` holds all that this agent keeps; ``agent_name`` is what people call the node.

    ``agent_join_token_file`` is needed until the node is enrolled. ``agent_devices`` is
    ``rehearsal`` only where somebody says so. ``agent_lifeline_fd`` is a descriptor whose end is the
    engines' end. ``agent_credential_life_s`` is how long the bus lets this node in at a time.
    """

    nats_credentials: Path = NOT_HELD
    """The node's own key; where nothing is said it is made in the data folder."""
    mesh_secret_file: Path = NOT_HELD
    """Never read: a node seals no principal."""

    agent_data_dir: Path
    agent_name: Name
    agent_join_token_file: Path | None = None
    agent_devices: Literal["rehearsal", "nvml"] = "nvml"
    agent_rehearsal_gpus: Whole = 2
    agent_energy_interval_s: Seconds = 60.0
    agent_models_dir: Path | None = None
    agent_lifeline_fd: int | None = None
    agent_jurisdiction: str = "FR"
    agent_address: str = "127.0.0.1"
    agent_credential_life_s: Seconds = 3_600.0

    @property
    def bus_key(self) -> Path:
        """The file with the node's own nkey."""
        held = self.nats_credentials
        return self.agent_data_dir / "bus.nk" if held == NOT_HELD else held

    @property
    def models_dir(self) -> Path:
        """Where builtin models are kept."""
        return self.agent_models_dir or self.agent_data_dir / "models"
