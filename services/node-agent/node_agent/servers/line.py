"""The line to a BMC: one exchange at a time, each bounded, tried again while the BMC is busy or away."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

import msgspec
from meshkit.errors import ConfigError
from sushy import exceptions

from node_agent.servers import ServerFault
from node_agent.servers.bmc import Bmc, Refused
from node_agent.servers.keys import Keys, Login

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long each thing may take, in seconds, and how often it is tried."""

    request_s: float = 20.0
    """One request, from the last byte that came."""
    exchange_s: float = 60.0
    """One exchange: a few requests."""
    tries: int = 5
    """How often an exchange is tried that the BMC was too busy for, or did not answer."""
    backoff_s: float = 1.0
    backoff_max_s: float = 15.0
    look_s: float = 2.0
    """How often the BMC is looked at while something is awaited."""
    graceful_s: float = 120.0
    """How long a tenant's system may take to shut down, before its power is cut."""
    forced_s: float = 60.0
    on_s: float = 300.0
    media_s: float = 120.0
    """How long a BMC may take to fetch an image."""
    off_at_least_s: float = 15.0
    """How long power stays off before what is to erase boots: memories do not keep their content."""
    sanitize_s: float = 2 * 3_600.0
    report_s: float = 2 * 3_600.0
    bmc_away_s: float = 90.0
    bmc_back_s: float = 600.0


class LoginRefused(Exception):
    """The BMC lets none of the logins in that are known here."""


_NONSENSE = (ValueError, LookupError, TypeError, AttributeError)
"""What sushy and our own reading raise where a BMC's answer is not what Redfish says."""
_FAULTS = (exceptions.SushyError, Refused, LoginRefused, ConfigError, *_NONSENSE)


class Line:
    """The way to one BMC. ``opened`` makes a session with a login; it blocks."""

    def __init__(self, opened: Callable[[Login], Bmc], keys: Keys, pace: Pace) -> None:
        self.keys = keys
        self.pace = pace
        self._opened = opened
        self._alone = threading.Lock()
        self._bmc: Bmc | None = None

    async def ask(self, what: str, work: Callable[[Bmc], T]) -> T:
        """Return what ``work`` gives; ``what`` says it in words, for faults. Raises ``ServerFault``."""
        wait_s = self.pace.backoff_s
        for tried in range(1, self.pace.tries + 1):
            try:
                return await self._once(work)
            except (exceptions.ConnectionError, exceptions.ServerSideError, TimeoutError) as fault:
                if tried == self.pace.tries or "certificate verify failed" in str(fault):
                    raise self._fault(what, fault, tried) from None
                logger.warning("%s: try %s: %s", what, tried, self.keys.hide(_said(fault)))
            except _FAULTS as fault:
                raise self._fault(what, fault, tried) from None
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, self.pace.backoff_max_s)
        raise AssertionError("the last try returns or raises")

    async def await_(
        self, what: str, look: Callable[[], Awaitable[T | None]], within_s: float, advice: str
    ) -> T:
        """Look until there is something to return. Raises ``ServerFault`` with ``advice`` past the time."""
        end = time.monotonic() + within_s
        while (found := await look()) is None:
            if time.monotonic() > end:
                raise ServerFault(f"{what}: not within {max(within_s, 0):.4g} s; {advice}")
            await asyncio.sleep(self.pace.look_s)
        return found

    async def once(
        self, work: Callable[[Bmc], T]
    ) -> tuple[Literal["answers", "refuses", "away"], T | None]:
        """Tell how the BMC stands now, and what ``work`` gives: asked once, over a fresh session."""
        try:
            await self.leave()
            return "answers", await self._once(work)
        except (exceptions.ConnectionError, TimeoutError):
            return "away", None
        except _FAULTS:
            return "refuses", None

    async def leave(self) -> None:
        """Let go of the session: the next exchange opens one."""
        with contextlib.suppress(TimeoutError):
            await self._alone_in_thread(self._close)

    async def _once(self, work: Callable[[Bmc], T]) -> T:
        return await self._alone_in_thread(lambda: work(self._session()))

    async def _alone_in_thread(self, work: Callable[[], T]) -> T:
        """Run what blocks, after all that was begun before; whoever stops waiting does not stop it."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def settle(found: T | None, fault: BaseException | None) -> None:
            if done.done():
                return
            if fault is None:
                done.set_result(found)  # type: ignore[arg-type]
            else:
                done.set_exception(fault)

        def run() -> None:
            with self._alone:
                if done.cancelled():
                    return
                found, fault = None, None
                try:
                    found = work()
                except BaseException as caught:  # noqa: BLE001 - raised again where it is awaited
                    fault = caught
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
                loop.call_soon_threadsafe(settle, found, fault)

        # A daemon: an agent that is told to stop does not wait for a BMC that hangs.
        threading.Thread(target=run, name="bmc", daemon=True).start()
        async with asyncio.timeout(self.pace.exchange_s):
            return await done

    def _session(self) -> Bmc:
        if self._bmc is None:
            self._bmc = self._open()
        return self._bmc

    def _open(self) -> Bmc:
        for login in self.keys.candidates():
            try:
                bmc = self._opened(login)
            except exceptions.AccessError:
                continue
            self.keys.settle(login)
            return bmc
        raise LoginRefused

    def _close(self) -> None:
        if self._bmc is not None:
            bmc, self._bmc = self._bmc, None
            bmc.close()

    def _fault(self, what: str, fault: Exception, tried: int) -> ServerFault:
        said = self.keys.hide(_said(fault))
        match fault:
            case LoginRefused() | exceptions.AccessError():
                text = (
                    f"the BMC refuses the agent's login: write one that it takes into {self.keys.told}"
                )
            case ConfigError() | Refused():
                text = said
            case exceptions.MissingActionError() | exceptions.MissingAttributeError():
                text = f"the BMC does not offer it as Redfish has it ({said}): update its firmware, or take the server out"
            case exceptions.ServerSideError():
                text = f"the BMC was too busy or broken, {tried} tries: reset it and look at its log ({said})"
            case TimeoutError():
                text = f"the BMC did not answer within {self.pace.exchange_s:g} s, {tried} tries: look at its network and power"
            case exceptions.ConnectionError() if "certificate verify failed" in said:
                text = (
                    f"the BMC's certificate is not trusted: name its CA in AGENT_BMC_CA_FILE ({said})"
                )
            case exceptions.ConnectionError():
                text = f"the BMC does not answer, {tried} tries: look at its network and power ({said})"
            case exceptions.SushyError():
                text = f"the BMC refuses: {said}"
            case _:
                kind = type(fault).__name__
                text = f"the BMC's answer makes no sense ({kind}: {said}): update its firmware"
        return ServerFault(f"{what}: {text}")


def _said(fault: Exception) -> str:
    return str(fault)[:300] or type(fault).__name__
