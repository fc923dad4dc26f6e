"""What time does to maintenance windows, with a real Postgres and a clock that moves when told to."""

from datetime import timedelta
from typing import Any

import pytest
from mesh_contracts.node import HealthChanged
from mesh_contracts.placement import (
    CancelMaintenance,
    CordonNode,
    ListMaintenance,
    PlanMaintenance,
    Resources,
    SubmitJob,
)
from meshkit.testing import envelope, test_id, wish
from meshkit.together import Asked as TogetherAsked
from placement import (
    forgetting,
    handlers,
    jobstore,
    maintaining,
    maintenance_asks,
    reading,
    submitting,
)
from placement.domain.fleet import Server
from placement.node_asks import NodeAsks
from placement.store import ENDED_KEPT_S

from tests.adapters.fleet import ADMIN, PROJECT, Site
from tests.adapters.holdings import RUN
from tests.adapters.watched import SITE, Hall

pytestmark = pytest.mark.slow

HOUR = 3_600


async def plan(hall: Hall, *nodes: str, begins: int, lasts: int | None) -> Any:
    start = hall.clock.now() + timedelta(seconds=begins)
    envelope_ = wish(ask_id=test_id("ask", "".join(nodes)), asked_at=hall.clock.now())
    ends = None if lasts is None else start + timedelta(seconds=lasts)
    ask = PlanMaintenance(**envelope_, nodes=list(nodes), starts_at=start, ends_at=ends, reason="fans")
    async with hall.store.transaction(changes=True) as tx:
        return await maintenance_asks.plan_maintenance(ask, ADMIN, tx, hall.clock)


async def listed(hall: Hall, **fields: Any) -> list[Any]:
    async with hall.store.transaction() as tx:
        ask = ListMaintenance(**wish(), **fields)
        return list((await maintenance_asks.list_maintenance(ask, ADMIN, tx, hall.clock)).items)


async def server(hall: Hall, name: str = "n1") -> Server:
    async with hall.store.transaction() as tx:
        found = await reading.find_server(tx, SITE, name)
    assert found is not None
    return found


async def checked(hall: Hall, name: str, number: int) -> None:
    node_id = test_id("node", name)
    fact = HealthChanged(
        **envelope(node_id), node_id=node_id, verdict="pass", level="quick", check=number, checks=[]
    )
    async with hall.store.transaction(changes=True) as tx:
        await handlers.on_health_changed(fact, tx, hall.clock)


async def cordon(hall: Hall, name: str) -> None:
    async with hall.store.transaction(changes=True) as tx:
        ask = CordonNode(**wish(), node=name, reason="a loose fan")
        await NodeAsks(hall.pulse.beats).cordon_node(ask, ADMIN, tx, hall.clock)


async def job(hall: Hall, name: str = "train", **fields: Any) -> str:
    async with hall.store.transaction(changes=True) as tx:
        await handlers.on_project_admitted(Site.admitted(PROJECT, "demo"), tx, hall.clock)
        shape = {"project": PROJECT, "command": RUN, "resources": Resources(gpus=1)}
        ask = SubmitJob(**wish(ask_id=test_id("ask", name)), name=name, **{**shape, **fields})
        (made,) = await submitting.submit_jobs([TogetherAsked(ask, ADMIN)], tx, hall.clock)
    return str(made.id)


async def state_of(hall: Hall, job_id: str) -> str:
    async with hall.store.transaction() as tx:
        found = await jobstore.load(tx, job_id)
    assert found is not None
    return found.state


async def skip(hall: Hall, seconds: int) -> None:
    """Let time pass in which nobody fell silent."""
    hall.clock.move(seconds - 1)
    await hall.pass_(1)


async def test_a_node_that_is_off_while_it_is_worked_on_is_not_lost_and_hides_no_loss(
    hall: Hall,
) -> None:
    await hall.join("n1", "n2", "n3", "n4", "n5")
    await plan(hall, "n1", "n2", begins=2, lasts=60)
    await hall.pass_(4)
    assert (await server(hall)).state == "repairing"
    await hall.pass_(20, but=("n1", "n2"))
    states = await hall.states()
    assert (states["n1"], states["n2"]) == ("repairing", "repairing")
    assert await hall.told("placement.silence.suspected") == 0
    await hall.pass_(13, but=("n1", "n2", "n3"))
    assert (await hall.states())["n3"] == "lost", "those that are off on purpose are not counted"


async def test_a_node_that_comes_back_from_a_loss_into_its_window_takes_nothing_until_the_end(
    hall: Hall,
) -> None:
    await hall.join("n1", "n2", "n3")
    await hall.pass_(13, but=("n1",))
    assert (await server(hall)).state == "lost"
    await plan(hall, "n1", begins=2, lasts=60)
    await hall.pass_(4)
    await checked(hall, "n1", 1)
    out = await server(hall)
    assert (out.state, [one.code for one in out.reasons]) == ("repairing", ["maintenance"])
    assert await hall.told("placement.node.returned") == 3, "as each joined"
    await hall.pass_(61)
    assert (await server(hall)).state == "validating"
    await checked(hall, "n1", (await server(hall)).check_needed)
    assert (await server(hall)).state == "ready"


async def test_a_node_that_somebody_else_cordoned_stays_out_when_its_window_is_over(
    hall: Hall,
) -> None:
    await hall.join("n1", "n2", "n3")
    await cordon(hall, "n1")
    await plan(hall, "n1", "n2", "n3", begins=2, lasts=60)
    await hall.pass_(3)
    await cordon(hall, "n2")
    await hall.pass_(2)
    for name in ("n1", "n2"):
        found = await server(hall, name)
        assert [one.code for one in found.reasons] == ["cordoned_by_operator", "maintenance"], name
    await hall.pass_(61)
    assert await hall.states() == {"n1": "cordoned", "n2": "cordoned", "n3": "validating"}
    assert [one.code for one in (await server(hall)).reasons] == ["cordoned_by_operator"]


async def test_what_cannot_be_preempted_goes_on_for_an_hour_from_the_plan_and_not_longer(
    hall: Hall,
) -> None:
    await hall.join("n1")
    job_id = await job(hall, preemptible=False)
    assert await state_of(hall, job_id) == "admitted"
    await plan(hall, "n1", begins=60, lasts=None)
    await skip(hall, 61)
    assert (await server(hall)).state == "draining"
    await skip(hall, HOUR - 70)
    assert await state_of(hall, job_id) == "admitted"
    await skip(hall, 20)
    assert await state_of(hall, job_id) == "preempted"


async def test_a_window_that_passed_while_nobody_looked_is_over_at_once(hall: Hall) -> None:
    await hall.join("n1")
    made = await plan(hall, "n1", begins=HOUR, lasts=HOUR)
    hall.store.beside.clear()
    await skip(hall, 3 * HOUR)
    (over,) = await listed(hall, ended=True)
    assert (over.id, over.state) == (made.id, "ended")
    assert (await server(hall)).state == "ready"
    assert await hall.told("placement.maintenance.started") == 0


async def test_a_site_whose_log_is_gone_still_knows_its_windows(hall: Hall) -> None:
    await hall.join("n1", "n2")
    made = await plan(hall, "n1", begins=HOUR, lasts=None)
    async with hall.store.transaction() as tx:
        await tx.change("DELETE FROM decision")
    hall.store.beside.clear()
    jobs = [await job(hall, name=name) for name in ("a", "b")]
    assert [await state_of(hall, one) for one in jobs] == ["admitted", "queued"]
    async with hall.store.transaction(changes=True) as tx:
        ask = CancelMaintenance(**wish(), window=made.id)
        await maintenance_asks.cancel_maintenance(ask, ADMIN, tx, hall.clock)
    assert await state_of(hall, jobs[1]) == "admitted"


async def test_many_nodes_are_taken_out_and_given_back_some_at_a_time(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintaining, "NODES_AT_ONCE", 2)
    names = ("n1", "n2", "n3")
    await hall.join(*names)
    await plan(hall, *names, begins=1, lasts=30)
    await hall.pass_(1)
    assert sorted((await hall.states()).values()) == ["ready", "repairing", "repairing"]
    await hall.pass_(1)
    assert set((await hall.states()).values()) == {"repairing"}
    await hall.pass_(29)
    assert sorted((await hall.states()).values()) == ["repairing", "validating", "validating"]
    await hall.pass_(1)
    assert set((await hall.states()).values()) == {"validating"}


async def test_windows_have_a_bound_and_those_long_over_are_forgotten(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance_asks, "WINDOWS_MAX", 1)
    await hall.join("n1", "n2")
    await plan(hall, "n1", begins=1, lasts=5)
    full = await plan(hall, "n2", begins=1, lasts=5)
    assert (full.status, full.code) == (409, "calendar_full")
    await hall.pass_(7)
    assert (await plan(hall, "n2", begins=HOUR, lasts=None)).state == "planned"
    assert len(await listed(hall, ended=True)) == 2
    hall.clock.move(ENDED_KEPT_S + 1)
    async with hall.store.transaction() as tx:
        await forgetting.forget(tx, hall.clock.now())
    (left,) = await listed(hall, ended=True)
    assert left.nodes == ["n2"]
