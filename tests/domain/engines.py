"""Inputs for an engine, drawn from a seed: nodes come, turn and are rebuilt; work comes and goes; caps move."""

from random import Random

from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.wish import (
    Asked,
    Capped,
    Expected,
    Found,
    Input,
    Measured,
    Near,
    NodePut,
    NodesLost,
    NodeTurned,
    Released,
    Seat,
    SeatsLost,
    Wish,
)

MODELS = ("H100", "B200", "L40S")
PLACES = ("FR", "FR", "DE")
SIZES = (
    Size(gpus=1, memory_mib=64),
    Size(gpus=2, models=("H100", "B200")),
    Size(gpus=4, cpu_milli=2_000),
    Size(gpu_milli=250, memory_mib=16),
    Size(gpu_milli=500, models=("L40S",)),
    Size(memory_mib=128),
)
NEAR = (
    Near(),
    Near(level="rack", required=True),
    Near(level="pdu"),
    Near(segment=2),
    Near(level="nvlink", segment=3),
)


class Inputs:
    """An endless row of inputs; equal seeds give equal rows."""

    def __init__(self, seed: int, nodes: int = 12) -> None:
        self._chance = Random(seed)
        self._nodes = nodes
        self._serial = 0
        self._living: list[str] = []
        self._gangs: list[tuple[str, int]] = []
        self._found = 0

    def next(self) -> Input:
        """Return what comes next; some of it cannot be (a node without a card that is held)."""
        chance = self._chance
        draw = chance.random()
        if self._serial < self._nodes or draw < 0.05:
            return self._node()
        if draw < 0.24:
            return self._befalls(draw)
        if draw < 0.5 and self._living:
            return Released(
                workload=self._living.pop(chance.randrange(len(self._living))), at=self._at()
            )
        return self._ask()

    def _befalls(self, draw: float) -> Input:
        if draw < 0.12:
            return self._turn() if draw < 0.1 else self._lose()
        if draw < 0.15:
            return self._unseat()
        if draw < 0.2:
            return self._watts(capped=draw < 0.18)
        return self._expect() if draw < 0.22 else self._find()

    def _turn(self) -> NodeTurned:
        closed, silent = self._chance.random() < 0.4, self._chance.random() < 0.2
        return NodeTurned(node=self._name(), closed=closed, silent=silent)

    def _lose(self) -> NodesLost:
        return NodesLost(nodes=(self._name(), self._name()), at=self._at())

    def _unseat(self) -> SeatsLost:
        workload, members = self._chance.choice(self._gangs[-6:] or [("none", 1)])
        lost = (self._chance.randrange(members),)
        return SeatsLost(workload=workload, members=lost, at=self._at())

    def _watts(self, *, capped: bool) -> Input:
        chance = self._chance
        if not capped:
            return Measured(level="rack", domain=self._domain(), watts=chance.randrange(3_000))
        watts = chance.choice((None, 900, 2_500, 9_000))
        return Capped(level=chance.choice(("rack", "pdu", "site")), domain=self._domain(), watts=watts)

    def _expect(self) -> Expected:
        sizes = self._chance.sample(SIZES, 3)
        return Expected(sizes=[(size, self._chance.randrange(1, 9)) for size in sizes])

    def _end(self) -> Released:
        workload = self._living.pop(self._chance.randrange(len(self._living)))
        return Released(workload=workload, at=self._at())

    def _node(self) -> NodePut:
        chance = self._chance
        self._serial += 1
        gpus = chance.choice((0, 2, 4, 4, 8, 10))
        lost = tuple(n for n in range(gpus) if chance.random() < 0.05)
        place = {"rack": self._domain(), "pdu": self._domain(), "nvlink": self._domain()}
        spec = NodeSpec(
            node=self._name(),
            model=chance.choice(MODELS),
            gpus=gpus,
            lost=lost,
            cpu_milli=chance.choice((4_000, 32_000)),
            memory_mib=chance.choice((128, 2_048)),
            jurisdiction=chance.choice(PLACES),
            assurances=("certified",) if chance.random() < 0.5 else (),
            slots=chance.choice((3, 256)),
            place=place,
            idle_w=100,
            gpu_w=chance.choice((300, 700)),
        )
        return NodePut(spec=spec)

    def _ask(self) -> Asked:
        chance = self._chance
        self._serial += 1
        workload = f"w{self._serial}"
        self._living.append(workload)
        members, elastic = chance.choice((1, 1, 1, 2, 3, 5)), chance.random() < 0.5
        if members > 1 and elastic:
            self._gangs.append((workload, members))
        tenant = chance.choice(("acme", "blau", "cote"))
        terms = Terms(
            jurisdictions=chance.choice(((), ("FR",), ("FR", "DE"))),
            assurances=("certified",) if chance.random() < 0.1 else (),
            tenant=tenant,
            isolation=chance.choice(("", "", "", "", "node", "rack")),
        )
        wish = Wish(
            workload=workload,
            organization=tenant,
            project=tenant,
            kind=chance.choice(("endpoint", "job")),
            size=chance.choice(SIZES),
            members=members,
            near=chance.choice(NEAR),
            elastic=elastic,
            priority=chance.choice((0, 0, 100)),
            preemptible=chance.random() < 0.3,
            queue=chance.random() < 0.5,
            terms=terms,
            group=chance.choice(("", "one", "two")),
            apart=chance.choice(("node", "rack")),
            dislike=(self._name(),) if chance.random() < 0.2 else (),
            home=(self._name(),) if chance.random() < 0.2 else (),
        )
        return Asked(wish=wish, at=self._at())

    def _find(self) -> Found:
        self._found += 1
        wish = Wish(
            workload=f"f{self._found}",
            organization="acme",
            project="acme",
            kind="endpoint",
            size=Size(gpu_milli=250),
            terms=Terms(tenant="acme"),
        )
        seat = Seat(self._name(), (self._chance.randrange(4),), 250)
        self._living.append(wish.workload)
        return Found(wish=wish, seats=(seat,), at=self._at())

    def _name(self) -> str:
        return f"n{self._chance.randrange(self._nodes)}"

    def _domain(self) -> str:
        return self._chance.choice("abc")

    def _at(self) -> int:
        return 1_000 * self._serial
