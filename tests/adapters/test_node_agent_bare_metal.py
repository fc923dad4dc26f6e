"""Sixteen emulated servers through a lease at once, a fault in each: all end, and only clean ones go on.

One real ``sushy-emulator`` has their power, boot devices and media; a double before each adds what it lacks.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mesh_contracts.node import ErasureRecorded
from node_agent.doubles.redfish import Double
from node_agent.doubles.redfish_pages import Fault
from node_agent.leases import Leases
from placement.domain.leases import after_erasure

from tests.adapters.bare_metal import (
    QUICK,
    Bare,
    Emulator,
    double,
    emulator,
    image_ran,
)
from tests.adapters.engines import until
from tests.domain.leased import leased

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PACE = msgspec.structs.replace(
    QUICK,
    request_s=4.0,
    exchange_s=12.0,
    backoff_s=0.2,
    look_s=1.0,
    graceful_s=15.0,
    forced_s=15.0,
    on_s=15.0,
    media_s=3.0,
    report_s=6.0,
    bmc_away_s=4.0,
    bmc_back_s=15.0,
)
STEP_WITHIN_S = 120.0
ALL = ["started", "ready", "stopped", "recorded", "recorded"]
"""What is told of a lease in which nothing goes wrong."""


@dataclass
class Trouble:
    """What goes wrong with one server in one step (or nothing), and what is told of its lease then."""

    step: str = ""
    faults: list[Fault] = field(default_factory=list)
    set_state: dict[str, Any] = field(default_factory=dict)
    verbs: list[str] = field(default_factory=lambda: list(ALL))
    said: str = ""
    verdict: str = "pass"
    image: bool = False


FAILED = ["started", "failed", "recorded", "recorded"]
NOT_BACK = ["started", "ready", "failed", "recorded", "recorded"]
NOT_CLEAN = ["started", "ready", "stopped", "recorded"]

TROUBLES = {
    "none": Trouble(),
    "none, by image": Trouble(image=True),
    "busy for a moment at the start": Trouble("hold", [Fault("busy", times=3)]),
    "busy for ever": Trouble("hold", [Fault("busy", "Actions/ComputerSystem")], verbs=FAILED, said="busy"),
    "a login refused": Trouble("hold", [Fault("refused")], verbs=FAILED, said="refuses the agent's login"),
    "a silence": Trouble("hold", [Fault("hangs", "GET", times=1, seconds=5.0)]),
    "silent for ever": Trouble(
        "hold", [Fault("hangs", "SerialConsole"), Fault("hangs", "VirtualMedia", seconds=5.0)],
        verbs=FAILED, said="does not answer",
    ),
    "no power": Trouble(
        "hold", [Fault("ignored", "ComputerSystem.Reset")], verbs=FAILED, said="power is Off, not On"
    ),
    "other firmware": Trouble(
        "hold", set_state={"firmware": {"BIOS": "1.1.0", "NIC": "22.41"}},
        verbs=FAILED, said="BIOS: found 1.1.0, expected 1.2.0",
    ),
    "no media": Trouble("hold", [Fault("denied", "InsertMedia")], verbs=FAILED, said="lease.iso: the BMC refuses"),
    "power that stays on": Trouble(
        "back", [Fault("ignored", "ComputerSystem.Reset")], verbs=NOT_BACK, said="power is On, not Off"
    ),
    "a password that stays": Trouble(
        "back", [Fault("denied", "Accounts/1")], verbs=NOT_BACK, said="changing the BMC's password"
    ),
    "no evidence": Trouble(
        "erase", [Fault("ignored", "SecureErase")], verbs=NOT_CLEAN,
        said="nothing shows that drive NVME-1, NVME-2 was erased", verdict="inconclusive",
    ),
    "no report": Trouble(
        "erase", [Fault("ignored", "VirtualMedia.InsertMedia")], verbs=NOT_CLEAN,
        said="erase.iso: not within 3 s; does the BMC reach it?", verdict="fail", image=True,
    ),
    "no reset": Trouble(
        "erase", [Fault("ignored", "Manager.Reset")], verbs=NOT_CLEAN,
        said="nothing shows that the BMC was reset", verdict="inconclusive",
    ),
    "firmware changed": Trouble(
        "attest", set_state={"firmware": {"BIOS": "9.9.9", "NIC": "22.41"}},
        said="BIOS: found 9.9.9, expected 1.2.0", verdict="fail",
    ),
}  # fmt: skip


class Walk:
    """One server's lease, as placement would have it: each next step only where its own rule says so."""

    def __init__(self, bare: Bare, bmc: Double, trouble: Trouble) -> None:
        self.bare, self.bmc, self.trouble = bare, bmc, trouble
        self.clean = False

    async def go(self, agent: Leases) -> None:
        await self._step(agent, "hold", {"ready", "failed"})
        if "ready" in self.bare.told.verbs():
            await self._step(agent, "back", {"stopped", "failed"})
        step = "erase"
        while step != "done":
            fact = await self._step(agent, step, {"recorded"})
            assert isinstance(fact, ErasureRecorded)
            step, _why, self.clean = after_erasure(fact, rehearsal=True)
        if self.clean:
            agent.wish([leased(of="the next")])
            await until(lambda: self.bare.told.verbs()[-1] == "ready", STEP_WITHIN_S)

    async def _step(self, agent: Leases, step: str, ends: set[str]) -> Any:
        state, told = self.bmc.state, self.bare.told
        hit = self.trouble.step == step
        before = {name: getattr(state, name) for name in self.trouble.set_state}
        state.faults = self.trouble.faults if hit else []
        for name, value in self.trouble.set_state.items() if hit else ():
            setattr(state, name, value)
        known = len(told.facts)
        agent.wish([] if step == "back" else [leased(step)])
        await until(lambda: ends & set(told.verbs()[known:]), STEP_WITHIN_S)
        state.faults = []
        for name, value in before.items():
            setattr(state, name, value)
        return told.facts[-1]


async def test_sixteen_servers_end_their_leases_and_only_clean_ones_are_handed_over_again(
    tmp_path: Path,
) -> None:
    assert len(TROUBLES) == 16
    async with emulator(tmp_path / "emulator", len(TROUBLES)) as emulated:
        walks = await asyncio.gather(
            *(
                walked(tmp_path / f"agent{number}", emulated, system, trouble)
                for number, (system, trouble) in enumerate(
                    zip(emulated.systems, TROUBLES.values(), strict=True)
                )
            )
        )
        for name, walk in zip(TROUBLES, walks, strict=True):
            ended(name, walk)
        assert sum(walk.clean for walk in walks) == 12
        power = {emulated.at(one)["PowerState"]: one for one in emulated.systems}
        held = [emulated.at(one)["PowerState"] == "On" for one in emulated.systems]
        assert held == [walk.clean for walk in walks], power


async def walked(folder: Path, emulated: Emulator, system: str, trouble: Trouble) -> Walk:
    reports = folder / "reports"
    reports.mkdir(parents=True)
    erase = f"{emulated.images}/erase.iso"
    with double(emulated.url, system, erasable=not trouble.image) as bmc:
        runs = iter(range(1, 9))

        def booted(image: str | None) -> None:
            if image == erase:
                image_ran(reports, system, ["NVME-1", "NVME-2"], next(runs))

        bmc.on_boot = booted
        by_image = {"erase_image": erase, "report_url": f"{reports.as_uri()}/{{system}}.json"}
        bare = Bare(
            folder,
            bmc.url,
            PACE,
            lease_image=f"{emulated.images}/lease.iso",
            **(by_image if trouble.image else {}),
        )
        walk = Walk(bare, bmc, trouble)
        async with bare.agent() as agent:
            await walk.go(agent)
        return walk


def ended(name: str, walk: Walk) -> None:
    told, trouble = walk.bare.told, walk.trouble
    again = ["started", "ready"] if walk.clean else []
    assert told.verbs() == trouble.verbs + again, (name, told.facts[-1])
    leases = [image for image in walk.bmc.state.booted if image == walk.bare.hold.lease_image]
    first = 0 if trouble.verbs == FAILED else 1
    assert first + walk.clean <= len(leases) <= 1 + walk.clean, (name, leases)
    reasons = [getattr(fact, "reason", "") or getattr(fact, "method", "") for fact in told.facts]
    assert trouble.said in " ".join(reasons), (name, reasons)
    recorded = [fact for fact in told.facts if isinstance(fact, ErasureRecorded)]
    assert {fact.quality for fact in recorded} == {"rehearsed"}, name
    assert recorded[-1].verdict == trouble.verdict, (name, recorded[-1])
    assert walk.clean == (trouble.verdict == "pass"), name
    if walk.clean:
        assert [fact.step for fact in recorded] == ["erased", "attested"], name
        assert {fact.verdict for fact in recorded} == {"pass"}, name
