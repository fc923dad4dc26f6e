"""A rehearsed server through its leases, with faults in each step, and restarts in between."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from node_agent.devices.rehearsal import SCENARIO, Rehearsal
from node_agent.leases import Leases, orphan
from node_agent.servers import Server, Unmanaged
from node_agent.servers.rehearsal import RehearsalServer

from tests.adapters.engines import Checked, Told, until
from tests.domain.leased import leased

pytestmark = pytest.mark.slow


class Leased:
    """One server and what was told of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.told = folder, Told()
        self.devices = Rehearsal("n1", 1, folder)

    @asynccontextmanager
    async def agent(self, server: Server | None = None) -> AsyncIterator[Leases]:
        server = server or RehearsalServer("n1", self.devices.lease_fault)
        made = Leases(self.folder, server, self.told.teller(), Checked())
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def breaks(self, step: str) -> None:
        (self.folder / SCENARIO).write_text(f'{{"lease": {{"step": "{step}"}}}}')

    async def verbs(self, *verbs: str) -> None:
        await until(lambda: self.told.verbs() == list(verbs))


@pytest.fixture
def here(tmp_path: Path) -> Leased:
    return Leased(tmp_path)


async def test_a_lease_is_handed_over_taken_back_erased_and_attested_and_says_it_is_rehearsed(
    here: Leased,
) -> None:
    async with here.agent() as agent:
        agent.wish([leased()])
        await here.verbs("started", "ready")
        assert (agent.held, agent.statuses()[0].state) == (True, "ready")
        agent.wish([])
        await here.verbs("started", "ready", "stopped")
        assert agent.statuses() == []
        agent.wish([leased("erase")])
        await here.verbs("started", "ready", "stopped", "recorded")
        assert agent.held
        agent.wish([leased("attest")])
        await here.verbs("started", "ready", "stopped", "recorded", "recorded")
        assert not agent.held
        erased, attested = here.told.facts[-2:]
        assert (erased.step, attested.step) == ("erased", "attested")  # type: ignore[attr-defined]
        assert {erased.quality, attested.quality} == {"rehearsed"}  # type: ignore[attr-defined]


async def test_a_restart_in_between_goes_on_where_it_stood(here: Leased) -> None:
    async with here.agent() as agent:
        agent.wish([leased()])
        await here.verbs("started", "ready")
    async with here.agent() as agent:
        assert agent.held
        agent.wish([leased()])
        await asyncio.sleep(0.3)
        assert here.told.verbs() == ["started", "ready"]
        agent.wish([leased("erase")])
        await here.verbs("started", "ready", "stopped", "recorded")


async def test_a_server_that_cannot_be_handed_over_says_why_and_can_still_be_erased(
    here: Leased,
) -> None:
    here.breaks("hand_over")
    async with here.agent() as agent:
        agent.wish([leased()])
        await here.verbs("started", "failed")
        assert "does not answer" in here.told.facts[-1].reason  # type: ignore[attr-defined]
        (here.folder / SCENARIO).unlink()
        agent.wish([leased("erase")])
        await here.verbs("started", "failed", "recorded")


@pytest.mark.parametrize("step", ["erase", "attest"])
async def test_a_step_that_fails_is_recorded_as_failed_not_passed(here: Leased, step: str) -> None:
    here.breaks(step)
    async with here.agent() as agent:
        agent.wish([leased()])
        await here.verbs("started", "ready")
        for wished in ("erase", "attest"):
            agent.wish([leased(wished)])
            await here.told.said("recorded")
        await until(lambda: here.told.verbs().count("recorded") == 2)
        found = {fact.step: fact.verdict for fact in here.told.facts if hasattr(fact, "step")}
        assert found == {"erased": "pass", "attested": "pass"} | {
            {"erase": "erased", "attest": "attested"}[step]: "fail"
        }


async def test_a_server_that_could_not_be_erased_may_be_checked_once_it_is_not_to_be_any_more(
    here: Leased,
) -> None:
    """Nobody works there, and the check of its return would wait for ever."""
    here.breaks("erase")
    async with here.agent() as agent:
        for wished in ("hold", "erase"):
            agent.wish([leased(wished)])
            await here.told.said("ready" if wished == "hold" else "recorded")
            assert agent.held
    async with here.agent() as agent:
        assert agent.held, "nothing was wished yet"
        agent.wish([])
        assert not agent.held


@pytest.mark.parametrize("fails", [None, "erase", "attest"])
async def test_a_lease_of_an_earlier_name_is_taken_back_and_erased_before_anybody_has_the_server(
    here: Leased, fails: str | None
) -> None:
    """The mesh forgot the node: nobody asks for it to be erased, and its disks are full all the same."""
    async with here.agent() as agent:
        agent.wish([leased()])
        await here.verbs("started", "ready")
    if fails:
        here.breaks(fails)
    orphan(here.folder)
    here.told.facts.clear()
    async with here.agent() as agent:
        assert agent.held
        agent.wish([leased(of="another")])
        await here.told.said("changed")
        first = here.told.facts[0]
        assert (first.verdict, "earlier name" in first.checks[0].detail) == ("inconclusive", True)  # type: ignore[attr-defined]
        await here.told.said("failed" if fails else "ready")
        found = {fact.step: fact.verdict for fact in here.told.facts if hasattr(fact, "step")}
        assert set(found) == {"erased", "attested"}
        if fails is None:
            assert set(found.values()) == {"pass"}
            return
        assert "was not erased" in here.told.facts[-1].reason or fails == "attest"  # type: ignore[attr-defined]
        (here.folder / SCENARIO).unlink()
        agent.wish([leased("erase", of="another")])
        await until(lambda: agent._lease and agent._lease.at == "erased")
        agent.wish([leased("attest", of="another")])
        await until(lambda: agent._lease and agent._lease.at == "attested")
        agent.wish([])
        agent.wish([leased(of="a third")])
        await here.told.said("ready")


async def test_a_server_that_the_agent_has_no_hold_of_is_not_leased_out(here: Leased) -> None:
    async with here.agent(Unmanaged()) as agent:
        agent.wish([leased()])
        await here.verbs("started", "failed")
        agent.wish([leased("erase")])
        await here.verbs("started", "failed", "recorded")
        recorded = here.told.facts[-1]
        assert (recorded.verdict, recorded.quality) == ("inconclusive", "measured")  # type: ignore[attr-defined]
