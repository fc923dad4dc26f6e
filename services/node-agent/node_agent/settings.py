"""What an agent is told, read once from the environment."""

import re
import shlex
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
from mesh_contracts.node import Level
from mesh_contracts.units import NAME_PATTERN, Name
from meshkit.config import Settings
from msgspec import Meta

from node_agent.commands import Runs, Runtime

NOT_HELD = Path("/dev/null")
LEVELS: tuple[str, ...] = get_args(Level)
ASSURANCES_MAX = 32

Whole = Annotated[int, Meta(ge=0, le=64)]
Watts = Annotated[int, Meta(ge=0, le=1_000_000)]
Seconds = Annotated[float, Meta(gt=0)]


class Place(dict[str, str]):
    """Parts of the site by level: ``rack=r1,pdu=p1``."""

    @classmethod
    def of_text(cls, text: str) -> "Place":
        """Return what a text says. Raises ``ValueError`` for what names no part of a site."""
        place = cls()
        for said in filter(None, (one.strip() for one in text.split(","))):
            level, _, name = said.partition("=")
            if level not in LEVELS:
                raise ValueError(f"{said!r} names no level: write rack=r1, of {', '.join(LEVELS)}")
            if level in place:
                raise ValueError(f"{level} stands there twice: a server stands in one of each")
            place[level] = _named(name, said)
        return place


class Assurances(tuple[str, ...]):
    """What a place is certified for: ``secnumcloud,hds``."""

    __slots__ = ()

    @classmethod
    def of_text(cls, text: str) -> "Assurances":
        """Return what a text names, each once, in its order. Raises ``ValueError`` for what is no name."""
        said = filter(None, (one.strip() for one in text.split(",")))
        names = dict.fromkeys(_named(one, one) for one in said)
        if len(names) > ASSURANCES_MAX:
            raise ValueError(f"{len(names)} names: at most {ASSURANCES_MAX}")
        return cls(names)


class Words(tuple[str, ...]):
    """Words as a shell reads them: ``--runtime runc``."""

    __slots__ = ()

    @classmethod
    def of_text(cls, text: str) -> "Words":
        """Return the words of a text. Raises ``ValueError`` for a quote that does not end."""
        return cls(shlex.split(text))


def _named(name: str, said: str) -> str:
    if not re.match(NAME_PATTERN, name):
        raise ValueError(
            f"{said!r}: a name has lower case letters, digits, dots and dashes, at most 63"
        )
    return name


class AgentSettings(Settings, frozen=True, kw_only=True):
    """``agent_data_dir`` holds all that this agent keeps; ``agent_name`` is what people call the node.

    ``agent_join_token_file`` is needed until the node is enrolled. ``agent_devices`` is
    ``rehearsal`` only where somebody says so, and ``declared`` where they are those of the server behind the BMC, as
    ``agent_devices_file`` names them; the first ``agent_rehearsal_mig`` rehearsal GPUs are in MIG mode (real ones
    are in the mode they are in). ``agent_lifeline_fd`` is a descriptor whose end is the
    engines' end. ``agent_credential_life_s`` is how long the bus lets this node in at a time.
    ``agent_place`` says where the server stands, ``agent_assurances`` what that place is certified for;
    ``agent_idle_w`` what it draws idle and ``agent_gpu_w`` what each GPU at work adds (0: not known).
    ``agent_jobs`` is what runs jobs here, ``agent_podman_more`` words for each ``podman run``;
    ``agent_job_stop_s`` how long a member may take to write its checkpoint and end, from SIGTERM on.
    ``agent_disk_least_mib``: with less room where its data is the node takes no new work.
    ``agent_limits``: whether the kernel keeps each workload within its memory and CPU (``required``: or the agent does not
    start). ``agent_vllm`` is the command that serves with vLLM here (``vllm serve``, and what options it is always to have), on the
    server itself or, with podman, in the image ``agent_vllm_image``.
    ``agent_kernel_log`` is where XIDs are read beside the driver's events. ``agent_check_enrolment`` is the level of the
    first health check, ``agent_check_every_s`` how often an idle device is checked after it (0: never).

    ``agent_bmc_url`` has the agent lease out the server behind that BMC, beside which it runs: see
    ``servers/redfish.py``. Its login stands in ``agent_bmc_credentials_file``, for its owner alone;
    ``agent_bmc_account`` is ``fixed`` where somebody else changes its password. ``agent_lease_address``
    is where tenants reach the server, ``agent_firmware_file`` what its firmware is to be.
    """

    nats_credentials: Path = NOT_HELD
    """The node's own key; where nothing is said it is made in the data folder."""
    mesh_secret_file: Path = NOT_HELD
    """Never read: a node seals no principal."""

    agent_data_dir: Path
    agent_name: Name
    agent_join_token_file: Path | None = None
    agent_devices: Literal["rehearsal", "nvml", "declared"] = "nvml"
    agent_devices_file: Path | None = None
    agent_rehearsal_gpus: Whole = 2
    agent_rehearsal_mig: Whole = 0
    agent_energy_interval_s: Seconds = 60.0
    agent_models_dir: Path | None = None
    agent_lifeline_fd: int | None = None
    agent_disk_least_mib: Annotated[int, Meta(ge=0, le=1_000_000)] = 64
    agent_limits: Literal["where_possible", "required", "off"] = "where_possible"
    agent_jurisdiction: str = "FR"
    agent_address: str = "127.0.0.1"
    agent_credential_life_s: Seconds = 3_600.0
    agent_place: Place = msgspec.field(default_factory=Place)
    agent_assurances: Assurances = Assurances()
    agent_idle_w: Watts = 0
    agent_gpu_w: Watts = 0
    agent_kernel_log: Path = Path("/dev/kmsg")
    agent_check_enrolment: Literal["quick", "standard", "deep"] = "standard"
    agent_check_every_s: Annotated[float, Meta(ge=0)] = 3_600.0
    agent_jobs: Runtime = "off"
    agent_podman_more: Words = Words()
    agent_job_stop_s: Seconds = 30.0
    agent_vllm: Words = Words()
    agent_vllm_image: str = ""
    agent_bmc_url: str | None = None
    agent_bmc_credentials_file: Path | None = None
    agent_bmc_account: Literal["rotated", "fixed"] = "rotated"
    agent_bmc_ca_file: Path | None = None
    agent_bmc_insecure: bool = False
    agent_lease_address: str | None = None
    agent_lease_image_url: str | None = None
    agent_erase_image_url: str | None = None
    agent_erase_report_url: str | None = None
    agent_firmware_file: Path | None = None

    @property
    def bus_key(self) -> Path:
        """The file with the node's own nkey."""
        held = self.nats_credentials
        return self.agent_data_dir / "bus.nk" if held == NOT_HELD else held

    @property
    def runs(self) -> Runs:
        """What runs the members of jobs here, and vLLM."""
        return Runs(
            runtime=self.agent_jobs,
            more=self.agent_podman_more,
            vllm=self.agent_vllm,
            vllm_image=self.agent_vllm_image,
        )

    @property
    def models_dir(self) -> Path:
        """Where builtin models are kept."""
        return self.agent_models_dir or self.agent_data_dir / "models"
