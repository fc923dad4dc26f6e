"""Whether the kernel keeps workloads within what they asked for, as the settings wish it."""

import logging

from meshkit.errors import ConfigError

from node_agent.runtimes.cgroups import Cgroups, NoCgroups
from node_agent.settings import AgentSettings

logger = logging.getLogger(__name__)


def open_limits(settings: AgentSettings) -> Cgroups | None:
    """Return the agent's control groups; nothing where it has none and needs none. Raises ``ConfigError``."""
    if settings.agent_limits == "off":
        return None
    try:
        return Cgroups.find(settings.agent_data_dir)
    except NoCgroups as fault:
        if settings.agent_limits == "required":
            raise ConfigError(f"AGENT_LIMITS=required, but {fault}") from fault
        logger.warning("nothing keeps a workload within its memory and CPU: %s", fault)
        return None
