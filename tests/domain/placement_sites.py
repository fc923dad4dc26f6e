"""Engines for tests to ask: a site of so many nodes, wishes with few words."""

from placement.domain.engine.engine import Engine
from placement.domain.engine.site import NodeSpec
from placement.domain.engine.size import Size, Terms
from placement.domain.engine.wish import Asked, NodePut, Outcome, Placed, Refused, Wish


def node(name: str, **fields: object) -> NodeSpec:
    """Return a node of eight GPUs in a rack of its own, but for what ``fields`` say."""
    base = {
        "model": "H100",
        "gpus": 8,
        "cpu_milli": 64_000,
        "memory_mib": 65_536,
        "jurisdiction": "FR",
        "place": {"rack": f"rack-of-{name}", "pdu": "p0"},
        "idle_w": 500,
        "gpu_w": 700,
    }
    return NodeSpec(node=name, **(base | fields))  # type: ignore[arg-type]


def site(*specs: NodeSpec) -> Engine:
    """Return an engine that knows these nodes."""
    engine = Engine()
    for spec in specs:
        engine.apply(NodePut(spec=spec))
    return engine


def wish(workload: str, size: Size, terms: Terms | None = None, **fields: object) -> Wish:
    """Return a wish for one member, but for what ``fields`` say."""
    base = {"organization": "o1", "project": "p1", "kind": "job", "terms": terms or Terms()}
    return Wish(workload=workload, size=size, **(base | fields))  # type: ignore[arg-type]


def ask(engine: Engine, wanted: Wish, at: int = 0) -> Outcome:
    return engine.apply(Asked(wish=wanted, at=at))


def placed(engine: Engine, wanted: Wish, at: int = 0) -> Placed:
    outcome = ask(engine, wanted, at)
    assert isinstance(outcome, Placed)
    return outcome


def refused(engine: Engine, wanted: Wish, at: int = 0) -> Refused:
    outcome = ask(engine, wanted, at)
    assert isinstance(outcome, Refused)
    return outcome
