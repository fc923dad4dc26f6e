"""The server as tenants lease it: one step after the other, each told of, each begun anew after a restart."""

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
from mesh_contracts.node import (
    Check,
    ErasureRecorded,
    WorkloadFailed,
    WorkloadReady,
    WorkloadStarted,
    WorkloadStatus,
    WorkloadStopped,
)
from mesh_contracts.placement import MemberSpec
from mesh_contracts.units import WorkloadId
from meshkit.telemetry import METRICS

from node_agent.domain.leasing import ON_ITS_OWN, At, Step, next_step, shown
from node_agent.runtimes.kept import write_whole
from node_agent.servers import Evidence, Server, ServerFault
from node_agent.telling import Teller

WITHIN_S: dict[Step, float] = {
    "hand_over": 3_600.0,
    "take_back": 900.0,
    "erase": 6 * 3_600.0,
    "attest": 1_800.0,
}
"""How long a step may take; then it has failed. Below what placement lists as stuck."""
LISTED_WITHIN_S = 6_300.0
"""So long placement may take from a server's return until its erasure: another of the lease may be in its hand-over (an
hour), is to be taken back then, and may be lost at last."""
REASON_CHARS_MAX = 1_000
FILE = "lease.json"
ORPHAN = "a tenant has, or had it, under an earlier name ({}): it is taken back and erased"
RETURN_IT = "see that it was erased and attested, then return the node"

logger = logging.getLogger(__name__)


class _Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The last lease of this server, and how far it has come.

    ``since`` is when it came there, in seconds since 1970. ``orphan``: the server had another name then. ``unclean``: of such a one, what was not shown to be clean.
    """

    workload_id: WorkloadId
    name: str
    at: At
    orphan: bool = False
    unclean: str = ""
    since: float = 0.0


class Checks(Protocol):
    """What a lease needs of the health checks."""

    async def check(self, level: Literal["standard"]) -> list[Check]:
        """Return the checks of all devices."""
        ...

    async def give_way(self) -> None:
        """Return once nothing checks any device any more."""
        ...

    def take_out(self, name: str, detail: str, action: str, teller: Teller) -> None:
        """Tell that the server should take no work, and why."""
        ...


class Leases:
    """Walks this server through its leases, one at a time, as placement wishes."""

    def __init__(
        self,
        folder: Path,
        server: Server,
        teller: Teller,
        health: Checks,
    ) -> None:
        self._file = folder / FILE
        self._server = server
        self._teller = teller
        self._health = health
        self._lease = self._recall()
        self._wanted: Sequence[MemberSpec] | None = None
        self._more = asyncio.Event()
        self._listed = False

    @property
    def held(self) -> bool:
        """Whether the server is a tenant's, or is still to be shown to be clean.

        Once a lease that gave it back is listed no more, whoever lists knows whether it is: it may be checked again. Between
        its return and its erasure it is not listed either, for as long as the lease's other servers take.
        """
        if self._lease is None or self._lease.at == "attested":
            return False
        if self._lease.at in {"handing_over", "held"} or self._lease.orphan or self._wanted is None:
            return True
        waited_s = time.time() - self._lease.since
        if self._lease.at == "given_back" and not self._listed and 0 <= waited_s < LISTED_WITHIN_S:
            return True
        return any(one.workload_id == self._lease.workload_id for one in self._wanted)

    def wish(self, wanted: Sequence[MemberSpec]) -> None:
        """Make it so that the server is leased as ``wanted`` says."""
        self._wanted = list(wanted)
        if self._lease is not None and any(
            one.workload_id == self._lease.workload_id and one.step in {"erase", "attest"}
            for one in wanted
        ):
            # From here on whether it is listed says how it stands.
            self._listed = True
        self._more.set()

    def statuses(self) -> list[WorkloadStatus]:
        """Return how the lease stands, for the heartbeat; nothing once it is given back."""
        state = None if self._lease is None else shown(self._lease.at)
        if self._lease is None or state is None:
            return []
        return [WorkloadStatus(workload_id=self._lease.workload_id, state=state)]

    async def run(self) -> None:
        """Do what is to be done next, for ever."""
        if self._lease is not None and self._lease.orphan and self.held:
            self._health.take_out("lease", ORPHAN.format(self._lease.name), RETURN_IT, self._teller)
        while True:
            self._more.clear()
            if not await self._once():
                await self._more.wait()

    async def _once(self) -> bool:
        """Do one step; false where there is none to be done."""
        if self._wanted is None:
            return False
        lease = self._lease
        known = None if lease is None else (lease.workload_id, lease.at)
        step, spec = next_step(known, self._wanted)
        if lease is not None and lease.orphan and lease.at in ON_ITS_OWN:
            step, spec = ON_ITS_OWN[lease.at], None
        if step is None:
            return False
        if step == "hand_over":
            assert spec is not None
            unclean = "" if lease is None else lease.unclean
            begun = _Lease(
                workload_id=spec.workload_id, name=spec.name, at="handing_over", unclean=unclean
            )
            lease = self._put(begun)
            self._teller.tell_of(WorkloadStarted, lease.workload_id, 1)
        assert lease is not None
        try:
            async with asyncio.timeout(WITHIN_S[step]):
                await self._do(step, lease)
        except ServerFault as fault:
            self._failed(step, lease, str(fault))
        except TimeoutError:
            self._failed(step, lease, f"the server was not done within {WITHIN_S[step]:g} s")
        return True

    async def _do(self, step: Step, lease: _Lease) -> None:
        logger.info("lease %s (%s): %s", lease.name, lease.workload_id, step)
        # One at a time has the server: what looks at its accelerators ends here.
        await self._health.give_way()
        match step:
            case "hand_over":
                if lease.unclean:
                    raise ServerFault(lease.unclean)
                at = await self._server.hand_over()
                told = {"address": at.address, "console": at.console}
                self._teller.tell_of(WorkloadReady, lease.workload_id, 1, **told)
                self._put(_at(lease, "held"))
            case "take_back":
                await self._server.take_back()
                self._teller.tell_of(WorkloadStopped, lease.workload_id, 1)
                self._put(_at(lease, "given_back"))
            case "erase":
                self._recorded("erased", lease, await self._server.erase())
            case "attest":
                self._recorded(
                    "attested", lease, await self._server.attest(await self._health.check("standard"))
                )

    def _failed(self, step: Step, lease: _Lease, why: str) -> None:
        """Tell that a step was not done: who has the server next decides placement, and not before it is shown clean."""
        logger.error("lease %s (%s): %s failed: %s", lease.name, lease.workload_id, step, why)
        if step in {"erase", "attest"}:
            found = Evidence(verdict="fail", method=why[:REASON_CHARS_MAX])
            self._recorded("erased" if step == "erase" else "attested", lease, found)
            return
        reason = f"{step.replace('_', ' ')}: {why}"[:REASON_CHARS_MAX]
        self._teller.tell_of(WorkloadFailed, lease.workload_id, 1, reason=reason)
        self._put(_at(lease, "given_back"))

    def _recorded(self, step: Literal["erased", "attested"], lease: _Lease, found: Evidence) -> None:
        told: dict[str, Any] = {
            "workload_id": lease.workload_id,
            "step": step,
            "verdict": found.verdict,
            "method": found.method,
            "evidence": found.seen,
            "quality": self._server.quality,
        }
        self._teller.tell(ErasureRecorded, **told)
        METRICS.count("mesh_lease_steps_total", step=step, verdict=found.verdict)
        unclean = lease.unclean
        if lease.orphan and found.verdict != "pass":
            unclean = f"what {lease.name} left under an earlier name of this server was not {step}: {found.method}"
        elif step == "attested" and found.verdict == "pass" and not lease.orphan:
            unclean = ""
        self._put(msgspec.structs.replace(lease, at=step, unclean=unclean[:REASON_CHARS_MAX]))

    def _put(self, lease: _Lease) -> _Lease:
        if self._lease is None or (self._lease.workload_id, self._lease.at) != (
            lease.workload_id,
            lease.at,
        ):
            lease = msgspec.structs.replace(lease, since=time.time())
            self._listed = False
        self._lease = lease
        write_whole(self._file, msgspec.json.encode(lease))
        return lease

    def _recall(self) -> _Lease | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Lease)
        except FileNotFoundError:
            return None


def orphan(folder: Path) -> None:
    """Note that the server has another name from now on: what is left of a lease is nobody's to be wished for."""
    file = folder / FILE
    if file.exists():
        lease = msgspec.json.decode(file.read_bytes(), type=_Lease)
        write_whole(file, msgspec.json.encode(msgspec.structs.replace(lease, orphan=True)))


def _at(lease: _Lease, at: At) -> _Lease:
    return msgspec.structs.replace(lease, at=at)
