"""A small hall for tests of turns: nodes in NVLink domains and projects."""

from typing import Any

from placement.domain.engine.engine import Engine
from placement.domain.engine.notice import (
    Booked,
    Cancelled,
    Maintained,
    NotBooked,
    Queued,
    QuotaSet,
    Ticked,
)
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import Size
from placement.domain.engine.wish import (
    Advanced,
    Asked,
    Input,
    Near,
    NodePut,
    NodeTurned,
    Outcome,
    Placed,
    Refused,
    Released,
    Reserved,
    Wish,
)

MINUTE = 60_000
HOUR = 60 * MINUTE
MODEL = "GB200"


NEVER = 1 << 60
"""A run that was promised for so long that it never gives way."""


class Hall:
    """An engine whose inputs are written down, so that they can be told to another."""

    def __init__(
        self, domains: int = 2, nodes: int = 2, gpus: int = 4, *, preempts: bool = True
    ) -> None:
        self.engine = Engine()
        self.preempts = preempts
        self.heard: list[Input] = []
        self.told: list[Outcome] = []
        self.now = 0
        self.names = 0
        for domain in range(domains):
            for node in range(nodes):
                place = {"nvlink": f"d{domain}", "rack": f"r{domain}"}
                spec = NodeSpec(
                    node=f"d{domain}n{node}",
                    model=MODEL,
                    gpus=gpus,
                    cpu_milli=64_000,
                    memory_mib=1 << 20,
                    place=place,
                )
                self.hear(NodePut(spec=spec))

    def hear(self, given: Input) -> Outcome:
        self.heard.append(given)
        self.told.append(self.engine.apply(given))
        return self.told[-1]

    def quota(
        self,
        organization: str,
        project: str = "",
        *,
        gpus: int = 0,
        domains: int = 0,
        limit: int | None = None,
        weight: int = 1,
    ) -> Outcome:
        return self.hear(
            QuotaSet(
                organization=organization,
                project=project,
                gpu_milli=1_000 * gpus,
                domains={MODEL: domains} if domains else {},
                limit_milli=None if limit is None else 1_000 * limit,
                weight=weight,
                at=self.now,
            )
        )

    def wish(self, project: str, gpus: int, **more: Any) -> Wish:
        """Return a wish; ``project`` is ``organisation/project``, or one that bears its organisation's name."""
        self.names += 1
        above, _, own = project.partition("/")
        given: dict[str, Any] = {
            "workload": f"w{self.names}",
            "organization": above,
            "project": own or above,
            "kind": "job",
            "size": Size(gpus=gpus),
            "min_run_ms": 0 if self.preempts else NEVER,
        }
        return Wish(**(given | more))

    def ask(self, project: str, gpus: int, **more: Any) -> Placed | Refused | Queued:
        found = self.hear(Asked(wish=self.wish(project, gpus, **more), at=self.now))
        assert isinstance(found, Placed | Refused | Queued)
        return found

    def placed(self, project: str, gpus: int, **more: Any) -> Placed:
        found = self.ask(project, gpus, **more)
        assert isinstance(found, Placed), found
        return found

    def queued(self, project: str, gpus: int, **more: Any) -> Queued:
        found = self.ask(project, gpus, **({"queue": True} | more))
        assert isinstance(found, Queued), found
        return found

    def domain(self, project: str, **more: Any) -> Placed | Refused | Queued:
        """Ask for a whole NVLink domain: a gang that needs all of its GPUs."""
        spec = self.engine.site.specs[0]
        nodes = int((self.engine.site.at("nvlink") == 0).sum())
        near = Near(level="nvlink", required=True)
        return self.ask(project, spec.gpus, **({"members": nodes, "near": near} | more))

    def release(self, workload: str) -> tuple[Any, ...]:
        return followed(self.hear(Released(workload=workload, at=self.now)))

    def cancel(self, name: str) -> tuple[Any, ...]:
        return followed(self.hear(Cancelled(name=name, at=self.now)))

    def tick(self, at: int) -> tuple[Any, ...]:
        self.now = at
        return followed(self.hear(Ticked(at=at)))

    def turn(self, node: str, *, closed: bool) -> tuple[Any, ...]:
        return followed(self.hear(NodeTurned(node=node, closed=closed)))

    def reserve(self, project: str, start: int, end: int, **more: Any) -> Booked | NotBooked:
        self.names += 1
        above, _, own = project.partition("/")
        given: dict[str, Any] = {
            "reservation": f"r{self.names}",
            "organization": above,
            "project": own or above,
            "start": start,
            "end": end,
            "at": self.now,
        }
        found = self.hear(Reserved(**(given | more)))
        assert isinstance(found, Booked | NotBooked)
        return found

    def maintain(self, start: int, end: int | None, **more: Any) -> Booked | NotBooked:
        self.names += 1
        given: dict[str, Any] = {
            "window": f"m{self.names}",
            "start": start,
            "end": end,
            "at": self.now,
        }
        found = self.hear(Maintained(**(given | more)))
        assert isinstance(found, Booked | NotBooked)
        return found

    @property
    def running(self) -> list[str]:
        return list(self.engine.holdings)

    @property
    def waiting(self) -> list[str]:
        return list(self.engine.turns.queue.entries)

    def borrowed(self, workload: str) -> bool:
        return self.engine.holdings[workload].borrowed


def followed(outcome: Outcome) -> tuple[Any, ...]:
    return outcome.outcomes if isinstance(outcome, Advanced) else ()


def started(outcomes: tuple[Any, ...]) -> list[str]:
    return [one.workload for one in outcomes if isinstance(one, Placed)]
