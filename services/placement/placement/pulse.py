"""Time and heartbeats: who is silent, whose pause or window is over, what the facts left out."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import get_args

from mesh_contracts.node import Heartbeat, WorkloadStatus
from mesh_contracts.placement import (
    EndpointState,
    JobState,
    LeaseState,
    NodeState,
    Reason,
    SilenceSuspected,
    WorkloadState,
)
from mesh_contracts.units import new_id
from meshkit.clock import Clock
from meshkit.store import Store, Transaction
from meshkit.telemetry import METRICS

from placement import demands, jobstore, leasestore, maintaining, members, memory, reading, work
from placement.domain.fleet import ENDED, Occasion, Placed
from placement.domain.health import on_returned
from placement.domain.jobs import OVER as JOB_OVER
from placement.domain.leases import OVER as LEASE_OVER
from placement.domain.members import LOST_FOR_S, Came, Member
from placement.domain.silence import STALLED_AFTER_S, Judgement, judge
from placement.domain.wishes import milliseconds
from placement.forgetting import forget
from placement.intents import put_intent
from placement.scaling import rescale
from placement.settle import settle
from placement.turns import now_drained, now_ended, now_lost, now_ready, turn_node, turn_silent

TICK_S = 1.0
COMPARE_EVERY = 5
"""Ticks between two comparisons of heartbeats with what we know."""
ABSENT_AFTER_S = 30.0
"""A workload that its node's heartbeats have not listed for this long is not there."""
PRUNE_EVERY = 600
NODES_MAX = 100_000
"""Nodes whose heartbeats are held; further ones are not."""
SHOWN = {
    "nodes": get_args(NodeState),
    "endpoints": [state for state in get_args(EndpointState) if state != "stopped"],
    "replicas": [state for state in get_args(WorkloadState) if state not in {"stopped", "failed"}],
    "jobs": [state for state in get_args(JobState) if state not in JOB_OVER],
    "leases": [state for state in get_args(LeaseState) if state not in LEASE_OVER],
}
WATCHED_STATES = ("ready", "validating", "cordoned", "draining", "repairing")

WholeSince = Callable[[], float | None]


class Pulse:
    """What heartbeats say, in memory; and what follows from them, each second.

    ``whole_since`` gives the monotonic time since which our own connection has been whole.
    """

    def __init__(
        self, site: str, clock: Clock, opened: Callable[[], Store], whole_since: WholeSince
    ) -> None:
        self._site = site
        self._clock = clock
        self._opened = opened
        self._whole_since = whole_since
        self._heard: dict[str, float] = {}
        self._seen_at: dict[str, datetime] = {}
        self._statuses: dict[str, dict[str, WorkloadStatus]] = {}
        self._listed: dict[str, dict[str, float]] = {}
        self._counted_from = clock.monotonic()
        self._awake = clock.monotonic()
        self._ticks = 0

    def on_heartbeat(self, beat: Heartbeat) -> None:
        """Note that a node lives, and what it runs."""
        if beat.node_id not in self._heard and len(self._heard) >= NODES_MAX:
            return
        now = self._clock.monotonic()
        self._heard[beat.node_id] = now
        self._seen_at[beat.node_id] = self._clock.now()
        # One that has ended is told by a fact; where that is missing it counts as not listed.
        self._statuses[beat.node_id] = {
            status.workload_id: status for status in beat.workloads if status.state not in ENDED
        }
        # What was listed longer ago than that counts as absent either way.
        listed = self._listed.get(beat.node_id, {}).items()
        kept = {workload: at for workload, at in listed if now - at <= ABSENT_AFTER_S}
        self._listed[beat.node_id] = kept | dict.fromkeys(self._statuses[beat.node_id], now)

    def seen_at(self, node_id: str) -> datetime | None:
        """Return when this process last heard a node."""
        return self._seen_at.get(node_id)

    async def run(self) -> None:
        """Tick each second, until cancelled."""
        self._awake = self._clock.monotonic()
        awake = asyncio.create_task(self._stay_awake())
        try:
            while True:
                await asyncio.sleep(TICK_S)
                await self.tick()
        finally:
            awake.cancel()

    async def _stay_awake(self) -> None:
        """Note that heartbeats are heard also while a tick waits for its turn; a process that stood still heard none."""
        while True:
            await asyncio.sleep(TICK_S / 2)
            now = self._clock.monotonic()
            if now - self._awake > STALLED_AFTER_S:
                self._counted_from = now
            self._awake = now

    async def tick(self) -> None:
        """Judge silence, begin what is due again, and repair what facts left out."""
        self._ticks += 1
        async with self._opened().transaction() as tx:
            known = await reading.nodes_by_state(tx, self._site)
            due = await reading.due(tx, self._site, self._clock.now())
            looks = await demands.to_look_at(tx, self._site, self._clock.now())
            drained = await demands.drained(tx, self._site, self._clock.now())
            owners = await self._owners_in_need(tx)
            empty = await reading.drained(tx, self._site)
            maintained = await maintaining.is_due(tx, self._site, self._clock.now())
            if self._ticks % COMPARE_EVERY == 1:
                _show(await reading.tally(tx, self._site))
        judged = self._judge(_of(known, lambda state, _: state in WATCHED_STATES))
        back = [node for node in _of(known, lambda state, _: state == "lost") if self._speaks(node)]
        heard = [node for node in _of(known, lambda _, silent: silent) if self._speaks(node)]
        compares = self._ticks % COMPARE_EVERY == 0
        METRICS.set("mesh_placement_nodes_silent", len(judged.lost) + len(judged.suspected))
        held = memory.of(self._opened().beside).at(self._site)
        late = maintained or held.is_due(milliseconds(self._clock.now()))
        calls = (judged.lost, judged.suspected, back, heard, due, looks, drained, owners, empty, late)
        if any(calls) or compares:
            async with self._opened().transaction(changes=True) as tx:
                await memory.hold(tx, self._site)
                await self._apply(tx, judged, back)
                if heard:
                    await turn_silent(tx, heard, silent=False)
                    await settle(tx, self._occasion(), self._clock.now())
                due += await rescale(tx, looks, self._clock.now())
                if due:
                    await settle(tx, self._occasion(), self._clock.now(), endpoints=due)
                for node_id in await demands.end_drains(tx, drained) if drained else ():
                    await put_intent(tx, node_id)
                await work.look_at(tx, self._occasion(), self._clock.now(), *owners)
                await work.tick(tx, self._occasion(), self._clock.now())
                if maintained:
                    await maintaining.follow(tx, self._occasion(), self._clock.now())
                for node_id in empty:
                    await now_drained(tx, self._occasion(), self._clock.now(), node_id)
                if compares:
                    # Time alone makes room, too: whom nobody might preempt yet.
                    held.refused.clear()
                    await self._repair(tx)
        if self._ticks % PRUNE_EVERY == 0:
            async with self._opened().transaction() as tx:
                await forget(tx, self._clock.now())
            self._forget(set(_of(known, lambda *_: True)))

    def _judge(self, watched: list[str]) -> Judgement:
        now = self._clock.monotonic()
        judged = judge(
            watched,
            self._heard,
            counted_from=self._counted_from,
            whole_since=self._whole_since(),
            last_awake=self._awake,
            now=now,
        )
        self._awake = now
        if judged.restart:
            self._counted_from = now
        return judged

    def _speaks(self, node_id: str) -> bool:
        heard = self._heard.get(node_id)
        return heard is not None and self._clock.monotonic() - heard < TICK_S * 2

    async def _apply(self, tx: Transaction, judged: Judgement, back: list[str]) -> None:
        now = self._clock.now()
        for lost in judged.lost:
            server = await reading.load_server(tx, lost.node_id)
            if server is not None and server.state in WATCHED_STATES:
                await now_lost(tx, self._occasion(), now, server, lost.silent_ms)
        for node_id in back:
            server = await reading.load_server(tx, node_id)
            if server is not None and server.state == "lost":
                occasion = self._occasion()
                await turn_node(tx, occasion, now, server, on_returned(server))
                await settle(tx, occasion, now, node_id=node_id)
        if judged.suspected:
            await turn_silent(tx, judged.suspected, silent=True)
            known = await tx.value("SELECT count(*) FROM node WHERE site = $1", self._site)
            await tx.tell(
                SilenceSuspected(
                    fact_id=new_id("fact"),
                    key=self._site,
                    site=self._site,
                    occurred_at=now,
                    silent=len(judged.suspected),
                    known=known,
                )
            )

    async def _repair(self, tx: Transaction) -> None:
        """Believe heartbeats where no fact came: an engine that answers, or is not there any more."""
        now = self._clock.now()
        for item in await reading.load_running(tx):
            if not self._speaks_for(item):
                continue
            status = self._statuses[item.node_id].get(item.workload_id)
            if status is not None:
                late = now - item.since > timedelta(seconds=ABSENT_AFTER_S)
                if (
                    late
                    and status.state == "ready"
                    and status.address
                    and item.state in {"assigned", "starting"}
                ):
                    await now_ready(
                        tx, self._occasion(), now, item, scheme=item.scheme, address=status.address
                    )
            elif self._absent_s(item, now) > ABSENT_AFTER_S:
                detail = f"{item.node} has listed no such engine for {int(ABSENT_AFTER_S)} s"
                reason = Reason(code="engine_absent", detail=detail)
                await now_ended(tx, self._occasion(), now, item, reason)

        for member in await members.on_node(tx):
            if self._speaks_for(member) and (came := self._seen(member, now)) is not None:
                await members.come(tx, member, came, now)
                await work.look_at(tx, self._occasion(), now, member.owner_id)

    def _seen(self, member: Member, now: datetime) -> Came | None:
        """Return what a member has come to by its node's heartbeats, where no fact told it.

        One that was never begun waits: its agent may not have read of it yet.
        """
        status = self._statuses[member.node_id].get(member.workload_id)
        if status is not None:
            runs = status.state == "ready" or (status.state == "starting" and member.kind == "job")
            if member.kind == "lease" and member.state == "stopping" and member.started_at is None:
                return Came(state="stopping", reasons=member.reasons, begun=True)
            late = now - member.since > timedelta(seconds=ABSENT_AFTER_S)
            goes = late and runs and member.going and member.state != "ready"
            return Came(state="ready", begun=True) if goes else None
        begun = member.state in {"starting", "ready", "stopping"}
        if not begun or self._absent_s(member, now) <= ABSENT_AFTER_S:
            return None
        if member.state == "stopping":
            return Came(state="stopped", reasons=member.reasons)
        detail = f"{member.node} has not listed member {member.number} for {int(ABSENT_AFTER_S)} s"
        return Came(state="failed", reasons=(Reason(code="member_absent", detail=detail),))

    async def _owners_in_need(self, tx: Transaction) -> list[str]:
        """Return the jobs and leases that time alone has something happen to."""
        now = self._clock.now()
        lost_before = now - timedelta(seconds=LOST_FOR_S)
        owners = await members.owners_in_need(tx, self._site, lost_before, now)
        owners += await members.owners_held_back(tx, self._site)
        owners += await leasestore.due(tx, self._site, now)
        return owners + await jobstore.due(tx, self._site, now)

    def _speaks_for(self, item: Placed | Member) -> bool:
        heard = self._heard.get(item.node_id)
        return heard is not None and self._clock.monotonic() - heard < COMPARE_EVERY * TICK_S

    def _absent_s(self, item: Placed | Member, now: datetime) -> float:
        """Return for how long a workload's node has spoken without listing it, at least since we began."""
        since_change = (now - item.since).total_seconds()
        listed = self._listed.get(item.node_id, {})
        floor = max(listed.get(item.workload_id, self._counted_from), self._counted_from)
        return min(since_change, self._clock.monotonic() - floor)

    def _occasion(self) -> Occasion:
        return Occasion(fact_id=new_id("occasion"), occurred_at=self._clock.now(), site=self._site)

    def _forget(self, nodes: set[str]) -> None:
        for held in (self._heard, self._seen_at, self._statuses, self._listed):
            for node_id in [node_id for node_id in held if node_id not in nodes]:
                del held[node_id]


def _of(known: dict[tuple[str, bool], list[str]], is_meant: Callable[[str, bool], bool]) -> list[str]:
    """Return the nodes in such states, by id."""
    return sorted(
        node for (state, silent), nodes in known.items() if is_meant(state, silent) for node in nodes
    )


def _show(tally: dict[tuple[str, str], int]) -> None:
    for what, states in SHOWN.items():
        for state in states:
            METRICS.set(f"mesh_placement_{what}", tally.get((what, state), 0), state=state)
