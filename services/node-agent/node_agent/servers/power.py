"""A server's power through its BMC: off, and on from what it is to boot."""

import contextlib
import logging

from node_agent.servers import ServerFault
from node_agent.servers.bmc import Bmc
from node_agent.servers.line import Line

logger = logging.getLogger(__name__)


class Power:
    """Brings about the power state that a step of a lease needs, whatever it is now. Raises ``ServerFault``.

    ``on_asked``: somebody may have switched it on just now, and it does not show yet.
    """

    def __init__(self, line: Line, address: str, *, on_asked: bool = False) -> None:
        self._line = line
        self._address = address
        self._pace = line.pace
        self._on_asked = on_asked

    async def off(self, *, graceful: bool = False) -> None:
        """Have the power off: with ``graceful`` once the system there has ended by itself, or has not in time."""
        if self._on_asked:
            # Who asked for it was ended before it came on: until then it is off, and no sooner can it be cut.
            with contextlib.suppress(ServerFault):
                await self._until("On", self._pace.on_s)
        if await self._state() == "Off" or (graceful and await self._shut_down()):
            self._on_asked = False
            return
        if not await self._reset("ForceOff"):
            raise ServerFault("the BMC cannot cut the server's power: take the server out")
        await self._until("Off", self._pace.forced_s)
        self._on_asked = False

    async def _shut_down(self) -> bool:
        """Have the tenant's system end; false where it does not in time."""
        try:
            if await self._reset("GracefulShutdown"):
                await self._until("Off", self._pace.graceful_s)
                return True
        except ServerFault as fault:
            logger.warning("%s did not shut down (%s); its power is cut", self._address, fault)
        return False

    async def boot(self, image: str | None) -> None:
        """Start the server, which is off, from an image or from the network, this once."""
        await self._line.ask("ejecting the image", Bmc.eject)
        if image is not None:
            what = f"inserting {image}"

            async def inserted() -> bool | None:
                return await self._line.ask(what, Bmc.inserted) or None

            await self._line.ask(what, lambda bmc: bmc.insert(image))
            advice = "does the BMC reach it?"
            await self._line.await_(what, inserted, self._pace.media_s, advice)
        await self._line.ask("the boot device", lambda bmc: bmc.boot_once(disc=image is not None))
        self._on_asked = True
        if not await self._reset("On", "ForceOn"):
            self._on_asked = False
            raise ServerFault("the BMC cannot power the server on: take the server out")
        await self._until("On", self._pace.on_s)
        self._on_asked = False

    async def _state(self) -> str:
        return await self._line.ask("the power state", Bmc.power)

    async def _reset(self, *kinds: str) -> bool:
        return await self._line.ask(f"power: {kinds[0]}", lambda bmc: bmc.reset(*kinds))

    async def _until(self, state: str, within_s: float) -> None:
        last = "unknown"

        async def look() -> str | None:
            nonlocal last
            last = await self._state()
            return last if last == state else None

        try:
            await self._line.await_(f"power {state}", look, within_s, "")
        except ServerFault:
            if last == state:
                raise
            raise ServerFault(
                f"the server's power is {last}, not {state}, {within_s:g} s after that was asked for:"
                " look at the chassis and the BMC's log"
            ) from None
