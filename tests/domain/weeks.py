"""A week of a small hall, drawn from a seed: work is asked for, ends, loses seats; nodes, quota and bookings change."""

from random import Random

from placement.domain.engine.notice import (
    Cancelled,
    CarbonForeseen,
    Maintained,
    QuotaSet,
    Ticked,
)
from placement.domain.engine.queue import PRIORITIES
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.wish import (
    Asked,
    Capped,
    Input,
    NodeTurned,
    Released,
    Reserved,
    SeatsLost,
    Wish,
)

from tests.domain.halls import HOUR, MODEL

PROJECTS = ("acme/red", "acme/blue", "beta/one", "gamma/none")


class Week:
    """An endless row of inputs for a small hall; equal seeds give equal rows. Some of them cannot be."""

    def __init__(self, seed: int) -> None:
        self.chance, self.losses = Random(seed), Random(f"{seed} losses")
        self.now = 0
        self.names = 0
        self.known: list[str] = []
        self.gangs: list[tuple[str, int]] = []

    def next(self) -> Input:
        self.now += self.chance.randrange(HOUR // 4)
        if self.gangs and self.losses.random() < 0.12:
            return self.lost()
        kinds = (self.asked, self.released, self.ticked, self.site, self.quota, self.booked)
        (kind,) = self.chance.choices(kinds, (50, 22, 10, 6, 4, 8))
        return kind()

    def asked(self) -> Input:
        return Asked(wish=self.wish(), at=self.now)

    def released(self) -> Input:
        return Released(workload=self.chance.choice(self.known or ["none"]), at=self.now)

    def lost(self) -> Input:
        workload, members = self.losses.choice(self.gangs)
        lost = (self.losses.randrange(members),)
        return SeatsLost(workload=workload, members=lost, at=self.now)

    def ticked(self) -> Input:
        if self.chance.random() < 0.3:
            grams = tuple(self.chance.randrange(20, 90) for _ in range(6))
            return CarbonForeseen(start=self.now, step=HOUR, mg_per_kwh=grams, at=self.now)
        return Ticked(at=self.now)

    def site(self) -> Input:
        chance = self.chance
        if chance.random() < 0.4:
            return Capped(level="site", domain="site", watts=chance.choice((None, 2_000, 9_000)))
        return NodeTurned(node=self.node(), closed=chance.random() < 0.4)

    def node(self) -> str:
        return f"d{self.chance.randrange(4)}n{self.chance.randrange(2)}"

    def booked(self) -> Input:
        chance = self.chance
        if chance.random() < 0.25:
            return Cancelled(name=f"n{chance.randrange(1, self.names + 2)}", at=self.now)
        self.names += 1
        start = self.now + chance.randrange(6) * HOUR
        if chance.random() < 0.3:
            return Maintained(
                window=f"n{self.names}",
                start=start,
                end=start + HOUR,
                nodes=(self.node(),),
                at=self.now,
            )
        organization, _, project = chance.choice(PROJECTS).partition("/")
        return Reserved(
            reservation=f"n{self.names}",
            organization=organization,
            project=project,
            start=start,
            end=start + 3 * HOUR,
            size=Size(gpus=chance.choice((1, 4))),
            members=chance.choice((1, 2)),
            at=self.now,
        )

    def wish(self) -> Wish:
        chance = self.chance
        self.names += 1
        self.known.append(f"w{self.names}")
        organization, _, project = chance.choice(PROJECTS).partition("/")
        members = chance.choice((1, 1, 2, 3))
        if members > 1:
            self.gangs = [*self.gangs[-5:], (f"w{self.names}", members)]
        return Wish(
            workload=f"w{self.names}",
            organization=organization,
            project=project,
            kind=chance.choice(("job", "lease")),
            size=Size(gpus=chance.choice((1, 1, 2, 4)), cpu_milli=chance.choice((0, 9_000))),
            members=members,
            elastic=members > 1,
            terms=Terms(tenant=organization, isolation=chance.choice(("", "", "", "node", "nvlink"))),
            priority=chance.choice(tuple(PRIORITIES.values())),
            preemptible=chance.random() < 0.6,
            slack_ms=chance.choice((0, 0, 0, 3 * HOUR)),
            min_run_ms=chance.choice((0, HOUR)),
            restart_cost=chance.randrange(5),
            queue=chance.random() < 0.8,
            run_ms=chance.choice((0, HOUR, 4 * HOUR)),
            reservation=f"n{chance.randrange(1, self.names + 1)}" if chance.random() < 0.1 else "",
        )

    def quota(self) -> Input:
        chance = self.chance
        organization, _, project = chance.choice(PROJECTS).partition("/")
        gpus = chance.choice((0, 4, 8, 12))
        return QuotaSet(
            organization=organization,
            project=project if chance.random() < 0.4 else "",
            gpu_milli=1_000 * gpus,
            domains={MODEL: gpus // 8} if gpus >= 8 else {},
            limit_milli=chance.choice((None, None, 16_000)),
            weight=chance.choice((0, 1, 3)),
            at=self.now,
        )
