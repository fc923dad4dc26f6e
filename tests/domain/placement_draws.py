"""What can come to a small site, drawn from a seed: each flavour makes another constraint the one that binds."""

from random import Random
from typing import Literal, get_args

from msgspec.structs import replace
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.wish import (
    Capped,
    Expected,
    Input,
    Measured,
    NodePut,
    NodeTurned,
    Weighed,
    Wish,
)

Flavour = Literal["room", "power", "alone", "terms", "mig", "all"]
FLAVOURS: tuple[Flavour, ...] = get_args(Flavour)
NODES = [f"n{number}" for number in range(6)]
CAPPABLE = [
    ("rack", "r0"),
    ("rack", "r1"),
    ("rack", "r2"),
    ("pdu", "p0"),
    ("pdu", "p1"),
    ("site", "site"),
]
PROFILES = [
    *("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"),
    *("1g.5gb", "2g.10gb", "1g.6gb", "2g.12gb", "9g.90gb"),
]
WATTS = [100, 150, 200, 250, 300, 400, 500, 700, 1_000]


class Draws:
    """Inputs and wishes of one flavour."""

    def __init__(self, seed: int, flavour: Flavour) -> None:
        self.chance, self._flavour = Random(f"{seed} {flavour}"), flavour

    def site(self) -> list[NodePut]:
        """Return the nodes that a site begins with."""
        nodes = self.chance.sample(NODES, self.chance.randint(2, 6))
        return [NodePut(spec=self.spec(node)) for node in nodes]

    def spec(self, node: str) -> NodeSpec:
        one = self.chance.choice
        spec = NodeSpec(
            node=node,
            model="H100",
            gpus=one([0, 1, 2, 3, 4, 4]),
            cpu_milli=100,
            memory_mib=100,
            jurisdiction="FR",
            place={
                "rack": one(["r0", "r1", "r2"]),
                "pdu": one(["p0", "p1"]),
                "nvlink": one(["v0", "v1"]),
            },
        )
        if self._has("room"):
            spec = replace(
                spec, cpu_milli=one([0, 3, 7, 12]), memory_mib=one([0, 3, 7, 12]), slots=one([1, 3, 9])
            )
        if self._has("power"):
            spec = replace(spec, idle_w=one([0, 20]), gpu_w=one([0, 50, 100, 100]))
        if self._has("alone") and one([0, 0, 1]):
            spec = replace(
                spec, place={level: at for level, at in spec.place.items() if level != "nvlink"}
            )
        if self._has("mig"):
            spec = replace(
                spec,
                model=one(["H100", "H100", "A100-40GB", "A30", "unheard-of"]),
                mig=one([(), (0,), (0, 1), (1, 3)]),
                gpu_w=one([spec.gpu_w, 50]),
            )
            spec = replace(spec, mig=tuple(card for card in spec.mig if card < spec.gpus))
        if self._has("terms"):
            assurances = one([(), ("hds",), ("secnumcloud",), ("secnumcloud", "hds")])
            spec = replace(
                spec,
                model=one(["", "H100", "L40S"]),
                jurisdiction=one(["FR", "DE", ""]),
                assurances=assurances,
            )
        return spec

    def size(self) -> Size:
        one = self.chance.choice
        if one([0, 0, 1]):
            size = Size(gpu_milli=one([100, 250, 400, 500, 750, 999]))
        else:
            size = Size(gpus=one([0, 1, 1, 2, 3, 4]))
        if self._has("mig") and one([0, 1, 1]):
            size = Size(mig=one(PROFILES))
        if self._has("room"):
            size = replace(size, cpu_milli=one([0, 1, 2, 5]), memory_mib=one([0, 1, 2, 5]))
        if self._has("terms"):
            size = replace(size, models=one([(), (), ("H100",), ("L40S",), ("H100", "B200")]))
        return size

    def wish(self) -> Wish:
        one = self.chance.choice
        terms = Terms(tenant=one(["ada", "bob"]))
        if self._has("alone"):
            terms = replace(terms, isolation=one(["", "", "node", "nvlink", "rack"]))
        if self._has("terms"):
            places = one([(), ("FR",), ("DE",), ("FR", "IT")])
            assurances = one([(), (), ("hds",), ("hds", "secnumcloud"), ("c5",)])
            terms = replace(terms, jurisdictions=places, assurances=assurances)
        return Wish(
            workload="",
            organization=terms.tenant,
            project="p",
            kind=one(["job", "endpoint"]),
            size=self.size(),
            terms=terms,
            group=one(["", "", "e1"]),
            priority=one([0, 0, 1, 2]),
            restart_cost=one([0, 0, 1, 2]),
        )

    def happens(self) -> Input:
        """Return what befalls the site: a node, a cap, a meter, what is expected."""
        one = self.chance.choice
        draw = self.chance.random()
        if draw < 0.2:
            return NodePut(spec=self.spec(one(NODES)))
        if draw < 0.4 and self._has("terms"):
            return NodeTurned(
                node=one(NODES), closed=one([True, False]), silent=one([True, False, False])
            )
        if draw < 0.9 and self._has("power"):
            level, domain = one(CAPPABLE)
            if one([0, 0, 1]):
                return Measured(level=level, domain=domain, watts=one(WATTS))
            return Capped(level=level, domain=domain, watts=one([*WATTS, None, None]))
        if self._has("power") and one([0, 1]):
            return Weighed(watt=one([0, 10, 1_000]))
        return Expected(sizes=[(self.size(), one([0, 1, 5])) for _ in range(one([0, 1, 3]))])

    def _has(self, flavour: Flavour) -> bool:
        return self._flavour in {"all", flavour}
