"""The checks of accelerators that are not the agent's own: the erase image makes them, on the server that it runs beside."""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Sequence
from typing import Protocol

from mesh_contracts.node import Check, Device

from node_agent.devices import Devices
from node_agent.devices.declared import Declared
from node_agent.domain.verdicts import Level
from node_agent.health import Health
from node_agent.probing import GaveWay, unjudged
from node_agent.servers import Server, ServerFault
from node_agent.settings import AgentSettings

WITHIN_S = 6 * 3_600.0
"""The image erases as well, as it does after a lease."""

REST_WITHIN_S = 900.0

logger = logging.getLogger(__name__)


class Examines(Protocol):
    """What boots the erase image."""

    async def examine(self) -> None:
        """Have the accelerators looked at; what was found is with the devices. Raises ``ServerFault``."""
        ...

    async def rest(self) -> None:
        """Have the server off again, and nothing of the look left. Raises ``ServerFault``."""
        ...


class Examining:
    """Checks the accelerators of a server through its erase image, and only where somebody wishes for a check.

    Any other time it tells what was found last: nothing reboots a server for a look.
    """

    def __init__(self, devices: Declared, server: Examines) -> None:
        self._devices = devices
        self._server = server
        self._running: asyncio.Task[str | None] | None = None

    def groups(self, devices: Sequence[Device]) -> list[Sequence[Device]]:
        """Return all of them together: one image runs for all."""
        return [devices] if devices else []

    async def check(
        self, devices: Sequence[Device], level: Level, only: Sequence[str] = (), *, anew: bool = False
    ) -> list[Check]:
        """Return what was found of ``devices``, whatever the ``level``: that is for the image. Raises ``GaveWay``.

        Among each other (``only``) it tries them as well as alone.
        """
        del level
        if only:
            return []
        if anew:
            why = await self._looked()
            if why is not None:
                return unjudged(devices, why)
        ids = {one.device_id for one in devices}
        return [one for one in self._devices.known() if one.device_id in ids]

    async def give_way(self, device_ids: Collection[str]) -> None:
        """End the examination: who is to have the server boots something else."""
        del device_ids
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def hangs(self, device_ids: Collection[str]) -> bool:
        """Tell that nothing stays behind."""
        del device_ids
        return False

    async def _looked(self) -> str | None:
        """Have them looked at; return why they were not, if so. Raises ``GaveWay``."""
        running = self._running = asyncio.create_task(self._look())
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if running.cancelled():
                raise GaveWay from None
            running.cancel()
            raise
        finally:
            self._running = None

    async def _look(self) -> str | None:
        """Look once: one wish is one look, whatever becomes of it. Nothing of it is left when this returns."""
        try:
            async with asyncio.timeout(WITHIN_S):
                await self._server.examine()
        except ServerFault as fault:
            return str(fault)
        except TimeoutError:
            with contextlib.suppress(ServerFault, TimeoutError):
                async with asyncio.timeout(REST_WITHIN_S):
                    await self._server.rest()
            return f"the erase image was not done within {WITHIN_S:g} s"
        except Exception as fault:
            logger.exception("the look at the accelerators failed")
            return f"the look itself failed: {type(fault).__name__}: {fault}"
        return None


def open_health(settings: AgentSettings, devices: Devices, server: Server) -> Health:
    """Return what checks these devices: health kernels here, or the erase image of the server behind the BMC."""
    folder = settings.agent_data_dir
    if isinstance(devices, Declared):
        from node_agent.servers.redfish import RedfishServer  # noqa: PLC0415 - only where there is a BMC

        assert isinstance(server, RedfishServer)
        return Health(devices, folder, probing=Examining(devices, server))
    return Health(
        devices,
        folder,
        enrolment=settings.agent_check_enrolment,
        every_s=settings.agent_check_every_s,
    )
