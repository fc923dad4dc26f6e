"""The agent's hold of a server against the real ``sushy-emulator``: power, boot device, virtual media."""

from pathlib import Path

import msgspec
import pytest
from node_agent.domain.proof import Expected

from tests.adapters.bare_metal import ADDRESS, QUICK, Bare, address_of, emulator
from tests.domain.leased import leased

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PACE = msgspec.structs.replace(
    QUICK, look_s=0.3, graceful_s=20.0, forced_s=20.0, on_s=20.0, report_s=0.5
)
"""The emulator takes up to 12 s for a change of power."""


async def test_an_emulated_server_is_handed_over_and_taken_back_and_no_erasure_is_claimed(
    tmp_path: Path,
) -> None:
    async with emulator(tmp_path / "emulator", 2) as emulated:
        mine, other = emulated.systems
        bare = Bare(
            tmp_path / "agent",
            address_of(emulated, mine),
            PACE,
            fixed=True,
            lease_image=f"{emulated.images}/lease.iso",
            expected=Expected(components={"Manager": "1.00"}),
        )
        async with bare.agent() as agent:
            agent.wish([leased()])
            await bare.told.said("started")
            ready = await bare.told.said("ready")
            assert ready.address == ADDRESS
            assert emulated.at(mine)["PowerState"] == "On"
            assert emulated.at(mine)["Boot"]["BootSourceOverrideTarget"] == "Cd"
            media = emulated.at(mine, "/VirtualMedia/Cd")
            assert (media["Inserted"], media["Image"]) == (True, bare.hold.lease_image)
            assert emulated.at(other)["PowerState"] == "Off"
            assert not emulated.at(other, "/VirtualMedia/Cd")["Inserted"]

            agent.wish([])
            await bare.told.said("stopped")
            assert emulated.at(mine)["PowerState"] == "Off"
            assert not emulated.at(mine, "/VirtualMedia/Cd")["Inserted"]

            agent.wish([leased("erase")])
            found = await bare.told.said("recorded")
            assert (found.verdict, found.quality) == ("inconclusive", "rehearsed")
            assert found.method == "nothing shows that drive 1234570 was erased"
            assert found.evidence["bmc_reset"] == "not shown"
