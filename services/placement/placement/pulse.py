"""Time and heartbeats: who is silent, whose pause or window is over, what the facts left out."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import NamedTuple

from mesh_contracts.placement import SilenceSuspected
from mesh_contracts.units import new_id
from meshkit.clock import Clock
from meshkit.store import Store, Transaction
from meshkit.telemetry import METRICS

from placement import (
    demands,
    jobstore,
    leasestore,
    maintaining,
    members,
    memory,
    moving,
    reading,
    relocating,
    replicas,
    standing,
    work,
)
from placement.domain.fleet import Occasion
from placement.domain.health import on_heard
from placement.domain.leases import GIVEN_UP_S
from placement.domain.members import LOST_FOR_S
from placement.domain.silence import STALLED_AFTER_S, Judgement, judge
from placement.domain.wishes import milliseconds
from placement.figures import show
from placement.forgetting import forget
from placement.heartbeats import Heartbeats
from placement.intents import put_intents
from placement.logs import Tails
from placement.repair import NOTHING, Differs, differing, repair
from placement.scaling import rescale
from placement.settle import settle
from placement.turns import now_drained, now_lost, turn_node, turn_silent
from placement.weighing import Weighing

TICK_S = 1.0
COMPARE_EVERY = 5
"""Ticks between two comparisons of heartbeats with what we know."""
PRUNE_EVERY = 600
OWNERS_MAX = 64
"""Jobs and leases that are looked at in one tick: whoever asks waits meanwhile."""
WATCHED_STATES = ("ready", "validating", "cordoned", "draining", "repairing")

WholeSince = Callable[[], float | None]


class _Seen(NamedTuple):
    """What there is to be done: endpoints that are ``due``, demand to look at, what has ended, whom time concerns, who waits to move."""

    known: dict[tuple[str, bool], list[str]]
    due: list[str]
    looks: list[str]
    drained: list[str]
    owners: list[str]
    empty: list[str]
    late: list[str]
    maintained: bool
    moves: list[str]
    compares: bool
    differs: Differs


class Pulse:
    """What heartbeats say, in memory; and what follows from them, each second.

    ``whole_since`` gives the monotonic time since which our own connection has been whole.
    """

    def __init__(
        self,
        site: str,
        clock: Clock,
        opened: Callable[[], Store],
        whole_since: WholeSince,
        weighing: Weighing,
    ) -> None:
        self._site = site
        self._clock = clock
        self._opened = opened
        self._whole_since = whole_since
        self._weighing = weighing
        self.beats = Heartbeats(clock)
        self.tails = Tails()
        self._awake = clock.monotonic()
        self._ticks = 0

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
                self.beats.counted_from = now
            self._awake = now

    async def tick(self) -> None:
        """Judge silence, begin what is due again, and repair what facts left out."""
        self._ticks += 1
        seen = await self._look()
        judged = self._judge(_of(seen.known, lambda state, _: state in WATCHED_STATES))
        speaks = partial(self.beats.speaks, within_s=2 * TICK_S)
        back = [node for node in _of(seen.known, lambda state, _: state == "lost") if speaks(node)]
        heard = [node for node in _of(seen.known, lambda _, silent: silent) if speaks(node)]
        METRICS.set("mesh_placement_nodes_silent", len(judged.lost) + len(judged.suspected))
        held = memory.of(self._opened().beside).at(self._site)
        now = milliseconds(self._clock.now())
        is_due = held.is_due(now)
        news = self._weighing.news(held, now, compares=seen.compares)
        if any((judged.lost, judged.suspected, back, heard, *seen[1:-1], is_due, news)):
            async with self._opened().transaction(changes=True) as tx:
                await memory.hold(tx, self._site)
                await self._apply(tx, judged, back)
                if heard:
                    await turn_silent(tx, heard, silent=False)
                    await settle(tx, self._occasion(), self._clock.now())
                for one in news:
                    await work.give(tx, self._occasion(), self._clock.now(), one)
                await self._go_on(tx, seen)
                if seen.compares:
                    # Time alone makes room, too: whom nobody might preempt yet.
                    held.refused.clear()
                    await repair(tx, self.beats, self._clock.now(), seen.differs, self._occasion)
        if self.tails:
            async with self._opened().transaction() as tx:
                await self.tails.write(tx, self._clock.now())
        if self._ticks % PRUNE_EVERY == 0:
            async with self._opened().transaction() as tx:
                await forget(tx, self._clock.now())
            self.beats.forget(set(_of(seen.known, lambda *_: True)))

    async def _look(self) -> _Seen:
        """Return what the tables say that time may have something follow from."""
        site, now, within_s = self._site, self._clock.now(), COMPARE_EVERY * TICK_S
        compares = self._ticks % COMPARE_EVERY == 0
        async with self._opened().transaction() as tx:
            if self._ticks % COMPARE_EVERY == 1:
                show(await standing.tally(tx, site))
            return _Seen(
                known=await standing.nodes_by_state(tx, site),
                due=await reading.due(tx, site, now),
                looks=await demands.to_look_at(tx, site, now),
                drained=await demands.drained(tx, site, now),
                owners=await self._owners_in_need(tx),
                empty=await standing.drained(tx, site),
                late=await replicas.held_back(tx, site),
                maintained=await maintaining.is_due(tx, site, now),
                moves=await moving.waiting(tx, site) if compares else [],
                compares=compares,
                differs=await differing(tx, self.beats, now, within_s) if compares else NOTHING,
            )

    async def _go_on(self, tx: Transaction, seen: _Seen) -> None:
        """Begin what is due, and end what is."""
        due = [*seen.due, *await rescale(tx, seen.looks, self._clock.now())]
        if due:
            await settle(tx, self._occasion(), self._clock.now(), endpoints=due)
        for node_id in await demands.end_drains(tx, seen.drained) if seen.drained else ():
            put_intents(tx, node_id)
        await work.look_at(tx, self._occasion(), self._clock.now(), *seen.owners)
        await work.tick(tx, self._occasion(), self._clock.now())
        await replicas.begin_late(tx, self._site, seen.late, self._clock.now())
        if seen.maintained:
            await maintaining.follow(tx, self._occasion(), self._clock.now())
        if seen.moves:
            await relocating.follow(tx, self._occasion(), self._clock.now())
        for node_id in seen.empty:
            await now_drained(tx, self._occasion(), self._clock.now(), node_id)

    def _judge(self, watched: list[str]) -> Judgement:
        now = self._clock.monotonic()
        judged = judge(
            watched,
            self.beats.heard,
            counted_from=self.beats.counted_from,
            whole_since=self._whole_since(),
            last_awake=self._awake,
            now=now,
        )
        self._awake = now
        if judged.restart:
            self.beats.counted_from = now
        return judged

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
                await turn_node(tx, occasion, now, server, on_heard(server))
                await settle(tx, occasion, now, node_ids=[node_id])
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

    async def _owners_in_need(self, tx: Transaction) -> list[str]:
        """Return the jobs and leases that time alone has something happen to; of many, some each time."""
        now = self._clock.now()
        lost_before = now - timedelta(seconds=LOST_FOR_S)
        owners = await members.owners_in_need(tx, self._site, lost_before, now)
        owners += await members.owners_held_back(tx, self._site)
        owners += await leasestore.due(tx, self._site, now)
        given_up = now - timedelta(seconds=GIVEN_UP_S)
        owners += await leasestore.with_given_up(tx, self._site, given_up)
        owners += await jobstore.due(tx, self._site, now)
        first = self._ticks * OWNERS_MAX % max(1, len(owners))
        return [*owners[first:], *owners[:first]][:OWNERS_MAX]

    def _occasion(self) -> Occasion:
        return Occasion(fact_id=new_id("occasion"), occurred_at=self._clock.now(), site=self._site)


def _of(known: dict[tuple[str, bool], list[str]], is_meant: Callable[[str, bool], bool]) -> list[str]:
    """Return the nodes in such states, by id."""
    return sorted(
        node for (state, silent), nodes in known.items() if is_meant(state, silent) for node in nodes
    )
